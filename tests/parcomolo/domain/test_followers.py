"""Those who only follow: rewards, operations, reports, the catalogue and its copy."""

from __future__ import annotations

from datetime import timedelta

import pytest

from millrace import Delete, Rejected, Timer
from parcomolo.catalogue import domain as catalogue
from parcomolo.catalogue.messages import ChangePrice
from parcomolo.catalogue.seed import PRODUCTS
from parcomolo.contracts.catalogue import PriceChanged, ProductAdded
from parcomolo.contracts.money import Money, total_of
from parcomolo.contracts.operations import DeliveryLate
from parcomolo.contracts.orders import OrderCancelled, OrderConfirmed, OrderDelivered, OrderExpired, OrderRejected
from parcomolo.contracts.rewards import RewardGranted
from parcomolo.inventory.opening import OPENING_STOCK
from parcomolo.operations import domain as operations
from parcomolo.operations.messages import JudgeDelivery
from parcomolo.operations.views import alert
from parcomolo.orders.prices import copy_price
from parcomolo.reports.views import OrderCounts, order_counts, product_sales, products_of
from parcomolo.rewards.domain import Purchase, Rewards, count
from tests.parcomolo.domain.examples import NOON, at, line, placed

LIMIT, GRACE, TICK = timedelta(seconds=30), timedelta(seconds=1), timedelta(microseconds=1)


def delivered(order_id="o1", customer_id="c1", took=timedelta()) -> OrderDelivered:
    """Return the fact of a delivery."""
    return OrderDelivered(order_id=order_id, customer_id=customer_id, placed_at=NOON, delivered_at=NOON + took)


# Rewards


def test_every_third_delivery_of_a_customer_earns_a_reward():
    """T2: 1, 2: nothing; 3: reward; 4, 5: nothing; 6: reward; the ids are stable."""
    account, granted = None, []
    for number in range(1, 7):
        _, account, *facts = count(delivered(f"o{number}"), account, None)
        granted += facts
    assert [fact.purchases for fact in granted] == [3, 6]
    assert all(isinstance(fact, RewardGranted) for fact in granted)
    assert [reward.reward_id for reward in account.rewards] == [fact.reward_id for fact in granted]
    _, _, again = count(delivered("x"), Rewards(customer_id="c1", purchases=2), None)
    assert again.reward_id == granted[0].reward_id


def test_the_same_delivery_counts_once():
    """T2: an order that is counted is not counted again."""
    counted = Purchase(order_id="o1", customer_id="c1")
    assert count(delivered(), Rewards(customer_id="c1", purchases=2), counted) == []


# Operations


def test_exactly_the_limit_is_not_late_and_one_tick_more_is():
    """T1: strictly above 30 s of business time."""
    [watched, timer] = operations.watch(placed(), None, limit=LIMIT, grace=GRACE)
    judge = JudgeDelivery(order_id="o1", seconds=31.0)
    assert timer == Timer("delivery", judge, at=NOON + LIMIT + GRACE, event_time=True)
    on_time = operations.judge_delivered(delivered(took=LIMIT), watched, limit=LIMIT)
    late = operations.judge_delivered(delivered(took=LIMIT + TICK), watched, limit=LIMIT)
    assert Delete(watched) in on_time
    assert not any(isinstance(item, DeliveryLate) for item in on_time)
    assert late[-1] == DeliveryLate(order_id="o1", seconds=30.000001)


def test_a_missing_delivery_is_late_once():
    """T1: at the deadline; the delivery that comes later says nothing more, nor does a second one."""
    watched, _ = operations.watch(placed(), None, limit=LIMIT, grace=GRACE)
    late, said = operations.judge_missing(JudgeDelivery(order_id="o1", seconds=31.0), watched)
    assert said == DeliveryLate(order_id="o1", seconds=31.0)
    assert operations.judge_missing(JudgeDelivery(order_id="o1", seconds=31.0), late) == []
    after = operations.judge_delivered(delivered(took=LIMIT * 2), late, limit=LIMIT)
    assert not any(isinstance(item, DeliveryLate) for item in after)
    assert operations.judge_delivered(delivered(took=LIMIT * 2), None, limit=LIMIT) == []


def test_an_order_that_ended_is_watched_no_more():
    """T1: cancelled, rejected and expired orders leave."""
    watched, _ = operations.watch(placed(), None, limit=LIMIT, grace=GRACE)
    for end in (
        OrderCancelled(order_id="o1", reason="x"),
        OrderRejected(order_id="o1", reason="x"),
        OrderExpired(order_id="o1"),
    ):
        assert Delete(watched) in operations.leave(end, watched)
        assert operations.leave(end, None) == []
    assert operations.judge_missing(JudgeDelivery(order_id="o1", seconds=31.0), None) == []


def test_the_list_of_alerts_has_each_order_once():
    """The first fact is shown."""
    first = alert(None, DeliveryLate(order_id="o1", seconds=31.0), at())
    assert first is not None
    assert (first.seconds, first.at) == (31.0, NOON)
    assert alert(first, DeliveryLate(order_id="o1", seconds=99.0), at()) is None


# Reports

CONFIRMED = OrderConfirmed(
    order_id="o1",
    customer_id="c1",
    lines=(line("cheese", 2), line("cheese", 1), line("cheese", 1, cents=1)),
    total=Money(amount=1),
)


def test_products_count_confirmed_orders_that_were_not_undone():
    """One row per product and price; undoing takes exactly that back, and the row goes."""
    assert products_of(CONFIRMED) == ["cheese|1|EUR", "cheese|699|EUR"]
    sold = product_sales(None, CONFIRMED, at(key="cheese|699|EUR"))
    assert (sold.quantity, sold.unit_price) == (3, Money(amount=699))
    undone = OrderRejected(order_id="o1", reason="shipping_failed", lines=CONFIRMED.lines, was_confirmed=True)
    assert isinstance(product_sales(sold, undone, at(key="cheese|699|EUR")), Delete)
    never = OrderRejected(order_id="o2", reason="out_of_stock", lines=CONFIRMED.lines)
    assert products_of(never) == []


def test_outcomes_count_as_the_contract_says():
    """All count in the total; confirmed and not undone succeeded; rejected or expired failed; cancelled is neither."""
    facts = (
        *[placed(f"o{number}") for number in range(5)],
        *[CONFIRMED] * 3,
        OrderCancelled(order_id="o1", reason="x", was_confirmed=True),
        OrderRejected(order_id="o2", reason="shipping_failed", was_confirmed=True),
        OrderCancelled(order_id="o3", reason="x"),
        OrderExpired(order_id="o4"),
    )
    counts = None
    for fact in facts:
        counts = order_counts(counts, fact)
    assert counts == OrderCounts(total=5, succeeded=1, failed=2)


# Catalogue


def test_the_seed_offers_three_groups_with_prices_and_opening_stock():
    """Seed 003's burgers are among at least twelve products; every product has stock, and every stock a product."""
    assert len(PRODUCTS) >= 12
    assert {product.group for product in PRODUCTS} == {"burgers", "sides", "drinks"}
    assert {product.sku for product in PRODUCTS} == set(OPENING_STOCK)
    burgers = {product.sku for product in PRODUCTS if product.group == "burgers"}
    assert burgers >= {"bland", "cheese", "a-lot-of-cheese"}
    assert all(product.unit_price.amount > 0 and product.unit_price.currency == "EUR" for product in PRODUCTS)


def test_products_are_added_once_and_prices_change_by_a_fact():
    """The copy that orders keeps follows both facts."""
    product, added = catalogue.add_product(PRODUCTS[0], None)
    assert isinstance(added, ProductAdded)
    assert catalogue.add_product(PRODUCTS[0], product) == []
    price = copy_price(added, None)
    dearer = Money(amount=1)
    product, changed = catalogue.change_price(ChangePrice(sku=product.sku, unit_price=dearer), product)
    assert changed == PriceChanged(sku=product.sku, unit_price=dearer)
    assert catalogue.change_price(ChangePrice(sku=product.sku, unit_price=dearer), product) == []
    copied = copy_price(changed, price)
    assert copied is not None
    assert (copied.unit_price, copied.name) == (dearer, product.name)
    assert copy_price(changed, None) is None


def test_impossible_prices_are_refused():
    """Below zero, in another currency, of nothing."""
    product, _ = catalogue.add_product(PRODUCTS[0], None)
    for price in (Money(amount=-1), Money(amount=1, currency="USD")):
        with pytest.raises(Rejected, match="invalid_price"):
            catalogue.change_price(ChangePrice(sku=product.sku, unit_price=price), product)
    with pytest.raises(Rejected, match="unknown_product"):
        catalogue.change_price(ChangePrice(sku="none", unit_price=Money(amount=1)), None)


def test_money_is_added_in_one_currency():
    """Minor units, never floats; a mixed total is a mistake of the caller."""
    assert total_of(()) == Money(amount=0)
    assert str(Money(amount=-1205)) == "\N{MINUS SIGN}€12.05"
    with pytest.raises(ValueError, match="one currency"):
        total_of((Money(amount=1), Money(amount=1, currency="USD")))
