"""The service payments: reacts to facts, asks the provider, and decides what follows from its answers.

Two processors: `handlers` decides (pure), `provider` calls the outside world (at least once, keyed by the payment's
id) and decides about the answer in the transaction that notes the request as answered. Requests go over the internal topic,
which keeps the order per order id.
"""

from __future__ import annotations

from millrace import Breaker, RetryPolicy, Service
from parcomolo.contracts.payments import (
    PaymentCommandRejected,
    PaymentFailed,
    PaymentRefunded,
    PaymentSucceeded,
    RefundFailed,
)
from parcomolo.payments import domain
from parcomolo.payments.answers import ChargeAnswered, RefundAnswered
from parcomolo.payments.domain import PaymentCase
from parcomolo.payments.messages import ChargeCard, RefundCard, VoidCard
from parcomolo.payments.provider import PaymentProvider
from parcomolo.payments.views import Payment, payment

SAYS = (PaymentSucceeded, PaymentFailed, PaymentRefunded, RefundFailed, ChargeCard, RefundCard, VoidCard)
DECISIONS = (
    domain.remember,
    domain.change_content,
    domain.charge_reserved,
    domain.charge_on_command,
    domain.charge_again,
    domain.stop,
    domain.void_expired,
    domain.close,
    domain.refund_again,
)


RETRIES = RetryPolicy(attempts=10, first_s=0.2, factor=2.0, most_s=30.0)
"""A request that the provider does not answer is made again with the same key; ten unanswered ones while others were answered are a case
for an operator."""
PROVIDER = Breaker("payment-provider", failures=5, first_s=1.0, factor=2.0, most_s=15.0)
"""While nothing is answered, orders wait and one request at a time looks for the provider."""


def build(provider: PaymentProvider) -> Service:
    """Return the service, wired to a provider."""
    payments = Service("payments", says=SAYS, rejection=PaymentCommandRejected)
    for decision in DECISIONS:
        payments.handler(case=PaymentCase.by("order_id"))(decision)
    payments.view(Payment)(payment)
    _call_provider(payments, provider)
    return payments


def _call_provider(payments: Service, provider: PaymentProvider) -> None:
    case = PaymentCase.by("order_id")

    @payments.handler(processor="provider", retry=RETRIES, breaker=PROVIDER, then=domain.charge_answered, case=case)
    async def charge(command: ChargeCard) -> ChargeAnswered:
        result = await provider.charge(command.payment_id, amount=command.amount, token=command.token)
        return ChargeAnswered(order_id=command.order_id, attempt=command.attempt, outcome=result.outcome, reason=result.reason)

    @payments.handler(processor="provider", retry=RETRIES, breaker=PROVIDER, then=domain.refund_answered, case=case)
    async def refund(command: RefundCard) -> RefundAnswered:
        result = await provider.refund(command.payment_id, amount=command.amount)
        return RefundAnswered(order_id=command.order_id, attempt=command.attempt, refunded=result.refunded, reason=result.reason)

    @payments.handler(processor="provider", retry=RETRIES, breaker=PROVIDER)
    async def void(command: VoidCard) -> None:
        await provider.void(command.payment_id)
