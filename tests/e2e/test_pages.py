"""The pages in headless Chromium: buying, watching an order move, cancelling; with scripts and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.browser import CHROMIUM, Visitor
from tests.e2e.running_shop import RunningShop, facts_of

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
Visits = Callable[..., Visitor]
SCHEMES = ("light", "dark")
WIDTHS = {"wide": 1280, "narrow": 390}
MARKUP = '<img src=/nowhere onerror="window.ran=1"><script>window.ran=1</script>\'"&amp;{{7*7}}'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of this file."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        found.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """A shop whose parcels take a moment, so that there is something to watch."""
    with RunningShop(tmp_path_factory.mktemp("pages") / "data", shipping_delay="0.7") as found:
        yield found
        assert found.complaints == ""


@pytest.fixture
def visit(browser: Browser, shop: RunningShop) -> Iterator[Visits]:
    """Opens windows, each with cookies and storage of its own; at the end nothing has gone wrong in any."""
    visitors: list[Visitor] = []

    def opened(**settings: object) -> Visitor:
        visitors.append(Visitor(browser.new_context(**settings), shop))  # type: ignore[arg-type]
        return visitors[-1]

    yield opened
    wrong = [line for visitor in visitors for line in visitor.wrong]
    for visitor in visitors:
        visitor.page.context.close()
    assert wrong == []


def test_the_shop_has_products(visit: Visits) -> None:
    """At least twelve, in three groups, each with a picture that is there, a price and a way to buy it."""
    page = visit().go("/")
    cards = page.query_selector_all("[data-product]")
    drawn = page.eval_on_selector_all("[data-product] img", "images => images.map(image => image.naturalWidth > 0)")

    assert len(cards) >= 12
    assert drawn == [True] * len(cards)
    assert page.locator("section.group").count() == 3
    assert page.locator("[data-product] button[name=sku]").count() == len(cards)
    assert {"bland", "cheese", "a-lot-of-cheese"} <= {card.get_attribute("data-product") for card in cards}
    assert all("€" in card.inner_text() for card in cards)


def test_buying_with_scripts(visit: Visits) -> None:
    """The order's page moves from placed to shipped and on without being loaded again, and ends with what the API tells."""
    visitor = visit()
    order_id = visitor.buy("cheese")
    visitor.page.wait_for_selector('[data-live][data-state="live"]')
    loads, early = visitor.loads, visitor.facts()
    visitor.wait_for_fact("item-shipped")
    visitor.wait_for_fact("order-completed")

    assert "item-shipped" not in early
    assert visitor.loads == loads
    assert visitor.facts() == facts_of(visitor.shop.look(order_id))
    assert visitor.page.locator(".step").count() <= 1


@pytest.mark.parametrize(
    "token, facts",
    [
        ("tok_declined", ["payment-failed", "stock-released", "order-rejected"]),
        ("tok_insufficient_funds", ["payment-succeeded", "order-completed"]),
    ],
)
def test_other_outcomes(visit: Visits, token: str, facts: list[str]) -> None:
    """The picker of payment outcomes decides how the story ends."""
    visitor = visit()
    visitor.buy("veggie", token=token)
    for fact in facts:
        visitor.wait_for_fact(fact)


def test_an_order_that_has_ended_is_not_followed(visit: Visits) -> None:
    """The page lets its stream go when the order has ended for good, and one that is opened later asks for none."""
    visitor, late = visit(), visit()
    streams: list[str] = []
    late.page.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    order_id = visitor.shop.place(("water", 1), review_seconds=60)
    visitor.go(f"/orders/{order_id}").wait_for_selector('[data-live][data-state="live"]')
    visitor.page.fill("[name=reason]", "no thirst")
    with visitor.page.expect_event("requestfailed", lambda request: "/events" in request.url):
        visitor.page.click(".cancel-form button")
    visitor.page.wait_for_selector("[data-live]", state="hidden")
    visitor.wait_for_fact("order-cancelled")
    late.go(f"/orders/{order_id}").wait_for_load_state("networkidle")

    assert late.page.locator("[data-live]").is_hidden()
    assert streams == []


def test_no_carrier(visit: Visits) -> None:
    """So does the picker of the carrier."""
    visitor = visit()
    visitor.go("/").check("input[name=shipping]")
    visitor.page.click("[data-product=veggie] button[name=sku]")
    for fact in ("shipping-failed", "payment-refunded", "stock-released", "order-rejected"):
        visitor.wait_for_fact(fact)


def test_too_many(visit: Visits) -> None:
    """More than there are: the order is taken, and its story tells that nothing was reserved."""
    visitor = visit()
    visitor.go("/").fill('[name="quantity.a-lot-of-cheese"]', "26")
    visitor.page.press('[name="quantity.a-lot-of-cheese"]', "Enter")
    visitor.page.wait_for_url("**/orders/*")
    visitor.wait_for_fact("out-of-stock")
    visitor.wait_for_fact("order-rejected")

    assert "stock-reserved" not in visitor.facts()


def test_buying_without_scripts(visit: Visits) -> None:
    """The same through forms; each page is complete when it arrives."""
    visitor = visit(java_script_enabled=False)
    order_id = visitor.buy("bland", token="tok_ok")
    assert visitor.facts()[0] == "order-placed"
    order = visitor.shop.ended(order_id)
    visitor.follow(".page-bar noscript a")

    assert order["status"] == "completed"
    assert visitor.facts() == facts_of(order)
    visitor.follow(".deliver-form button")
    assert visitor.facts()[-1] == "order-delivered"


def test_cancelling_without_scripts(visit: Visits) -> None:
    """From the list, with a reason, and back to the list, which shows it."""
    visitor = visit(java_script_enabled=False)
    order_id = visitor.shop.listed(("water", 1), review_seconds=60)
    visitor.go("/orders?status=pending").click(f"tr[data-order='{order_id}'] summary")
    visitor.page.fill(f"tr[data-order='{order_id}'] [name=reason]", "no thirst")
    visitor.follow(f"tr[data-order='{order_id}'] .cancel-form button")

    assert visitor.page.url.endswith("/orders?status=pending")
    order = visitor.shop.ended(order_id)
    assert (order["status"], order["reason"]) == ("cancelled", "no thirst")
    assert "no thirst" in visitor.go("/orders").inner_text(f"tr[data-order='{order_id}']")


def test_what_is_to_come_is_no_fact(visit: Visits) -> None:
    """Facts that have happened carry `data-fact`; steps to come are there, and carry none."""
    visitor = visit()
    order_id = visitor.shop.place(("water", 1), review_seconds=60)
    visitor.go(f"/orders/{order_id}")
    steps = visitor.page.query_selector_all("li.step")

    assert visitor.facts() == ["order-placed"]
    assert len(steps) >= 3
    assert {step.get_attribute("data-fact") for step in steps} == {None}
    assert not visitor.page.query_selector_all("li.step [data-fact]")


def test_cancelling_from_the_list(visit: Visits) -> None:
    """A reason is needed; the row then moves without a reload, and the order's page in another window, too."""
    visitor, other = visit(), visit()
    order_id = visitor.shop.listed(("water", 2), review_seconds=60)
    other.go(f"/orders/{order_id}").wait_for_selector('[data-live][data-state="live"]')
    row = visitor.go("/orders").locator(f"tr[data-order='{order_id}']")
    row.locator("summary").click()
    loads = visitor.loads
    row.locator(".cancel-form button").click()
    assert visitor.shop.look(order_id)["status"] == "pending"
    row.locator("[name=reason]").fill("changed my mind")
    row.locator(".cancel-form button").click()
    row.locator("[data-value=cancelled]").wait_for()
    other.wait_for_fact("order-cancelled")

    assert (visitor.loads, other.loads) == (loads, 1)
    assert "changed my mind" in row.inner_text()
    assert visitor.shop.look(order_id)["reason"] == "changed my mind"
    assert "changed my mind" in other.page.inner_text("[data-part=head]")


def test_the_list_moves(visit: Visits) -> None:
    """A new order appears on the list by itself, goes through its states, and can be delivered there."""
    visitor = visit()
    visitor.go("/orders").wait_for_selector('[data-live][data-state="live"]')
    loads = visitor.loads
    order_id = visitor.shop.place(("cola", 1))
    row = visitor.page.locator(f"tr[data-order='{order_id}']")
    row.locator("[data-value=completed]").wait_for()
    row.locator(".deliver-form button").click()
    row.locator("[data-value=delivered]").wait_for()

    assert visitor.loads == loads


def test_markup_stays_text(visit: Visits) -> None:
    """Names and reasons that look like markup are shown as they were written, and nothing of them runs."""
    visitor = visit()
    ship_to = {"name": MARKUP, "street": MARKUP, "city": MARKUP, "country": MARKUP}
    order_id = visitor.shop.place(("cola", 1), customer_id=MARKUP[:80], ship_to=ship_to, review_seconds=60)
    path = f"/api/orders/{order_id}/cancel"
    visitor.go(f"/orders/{order_id}").wait_for_selector('[data-live][data-state="live"]')
    assert visitor.shop.http.post(path, json={"reason": MARKUP}).status_code == 200
    visitor.wait_for_fact("order-cancelled")
    for page in ("/orders", f"/orders/{order_id}"):
        visitor.go(page)
        assert MARKUP[:80] in visitor.page.inner_text("main")
        assert MARKUP in visitor.page.inner_text("main")
        assert visitor.page.evaluate("window.ran") is None
    bought = visitor.buy("cola", customer=MARKUP[:80])
    visitor.wait_for_fact("item-shipped")
    assert visitor.shop.look(bought)["customer_id"] == MARKUP[:80]


def test_every_link_leads_somewhere(visit: Visits) -> None:
    """Whatever the pages link to is there; pages among it make no failing request either."""
    visitor = visit()
    order_id = visitor.shop.completed()["order_id"]
    links: set[str] = set()
    for path in ("/", "/orders", "/orders?status=completed", "/orders?status=on_hold", f"/orders/{order_id}", "/docs"):
        found = visitor.go(path).eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        assert all(link.startswith(f"{visitor.shop.url}/") for link in found), found
        links |= {link.split("#")[0] for link in found}

    assert {link: visitor.shop.http.get(link).status_code for link in links} == dict.fromkeys(links, 200)
    assert len(links) > 10
    assert visitor.shop.http.get("/favicon.ico").status_code == 200


def colour_of(visitor: Visitor) -> str:
    """Return the colour of the paper."""
    return visitor.page.evaluate(
        "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.documentElement).backgroundColor"
    )


def test_light_and_dark(visit: Visits, tmp_path: Path) -> None:
    """Every page in both schemes and on a phone: another paper, nothing wider than the window; the pictures are kept for whoever looks."""
    order_id = visit().shop.completed(("cheese", 2), ship_to={"name": "Ada Lovelace", "city": "London"})["order_id"]
    papers: dict[str, set[str]] = {}
    for scheme in SCHEMES:
        for width, pixels in WIDTHS.items():
            visitor = visit(color_scheme=scheme, viewport={"width": pixels, "height": 900})
            for name, path in {"shop": "/", "orders": "/orders", "order": f"/orders/{order_id}", "docs": "/docs"}.items():
                visitor.go(path)
                papers.setdefault(scheme, set()).add(colour_of(visitor))
                visitor.page.screenshot(path=tmp_path / f"{name}-{scheme}-{width}.png", full_page=name == "order")
                wide = visitor.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= pixels, (name, width, wide)
    print(f"screenshots in {tmp_path}")
    assert not papers["light"] & papers["dark"]


@pytest.mark.crash
def test_an_open_page_outlives_its_server(browser: Browser, data: Path) -> None:
    """Kill -9 while somebody watches: the page says that it has lost the shop, finds it again, and the story goes on by itself."""
    with RunningShop(data, shipping_delay="1") as shop:
        visitor = Visitor(browser.new_context(), shop)
        order_id = visitor.buy("cheese")
        visitor.wait_for_fact("payment-succeeded")
        loads = visitor.loads
        shop.kill()
        visitor.page.wait_for_selector('[data-live][data-state="reconnecting"]')
    with RunningShop(data, shipping_delay="1", port=str(urlsplit(shop.url).port)) as shop:
        visitor.wait_for_fact("item-shipped")
        visitor.wait_for_fact("order-completed")
        assert visitor.loads == loads
        assert visitor.facts() == facts_of(shop.look(order_id))
        visitor.page.context.close()
