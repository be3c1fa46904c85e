"""The service payments: reacts to facts, asks the provider, and brings its answers back.

Two processors: `handlers` decides (pure), `provider` calls the outside world (at least once, keyed by the payment's
id). They talk over the internal topic, which keeps the order per order id.
"""

from __future__ import annotations

from millrace import Service
from parcomolo.contracts.payments import (
    PaymentCommandRejected,
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    RefundFailed,
)
from parcomolo.payments import domain
from parcomolo.payments.domain import PaymentCase
from parcomolo.payments.messages import ChargeAnswered, ChargeCard, RefundAnswered, RefundCard, VoidCard
from parcomolo.payments.provider import PaymentProvider
from parcomolo.payments.views import Payment, payment

SAYS = (PaymentSucceeded, PaymentFailed, PaymentRefunded, RefundFailed, ChargeCard, RefundCard, VoidCard)
DECISIONS = (
    domain.remember,
    domain.change_content,
    domain.charge_reserved,
    domain.charge_on_command,
    domain.charge_again,
    domain.charge_answered,
    domain.stop,
    domain.void_expired,
    domain.close,
    domain.refund_again,
    domain.refund_answered,
)


def build(provider: PaymentProvider) -> Service:
    """Return the service, wired to a provider."""
    payments = Service("payments", says=SAYS, rejection=PaymentCommandRejected)
    for decision in DECISIONS:
        payments.handler(case=PaymentCase.by("order_id"))(decision)
    payments.view(Payment)(payment)
    _call_provider(payments, provider)
    return payments


def _call_provider(payments: Service, provider: PaymentProvider) -> None:
    @payments.handler(processor="provider")
    async def charge(command: ChargeCard) -> ChargeAnswered:
        result = await provider.charge(command.payment_id, amount=command.amount, token=command.token)
        return ChargeAnswered(order_id=command.order_id, attempt=command.attempt, outcome=result.outcome, reason=result.reason)

    @payments.handler(processor="provider")
    async def refund(command: RefundCard) -> RefundAnswered:
        result = await provider.refund(command.payment_id, amount=command.amount)
        return RefundAnswered(order_id=command.order_id, attempt=command.attempt, refunded=result.refunded, reason=result.reason)

    @payments.handler(processor="provider")
    async def void(command: VoidCard) -> None:
        await provider.void(command.payment_id)
