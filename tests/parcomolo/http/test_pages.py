"""PLATFORM section 7: the pages are complete without scripts, and their forms do what the API does."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from tests.parcomolo.http.shop import Shop

HTML = {"Accept": "text/html"}
FORM = {"sku": "cheese", "quantity.cheese": "2", "customer_id": "ada", "payment_token": "tok_ok"}


async def bought(shop: Shop) -> str:
    """Buy with the form and return the address of the order's page."""
    answer = await shop.http.post("/buy", data=FORM)
    assert answer.status_code == 303
    return answer.headers["Location"]


async def test_the_shop_shows_products_and_what_is_left(shop: Shop):
    """Every product with its price, in three groups."""
    page = (await shop.http.get("/")).text
    assert page.count("data-product=") == 13
    assert page.index("Bland Burger") < page.index("Fries") < page.index("Cola")
    assert "25 left" in page


async def test_buying_leads_to_the_orders_page(shop: Shop):
    """303, and the page is there at once, with what has happened so far."""
    path = await bought(shop)
    page = await shop.http.get(path)
    assert page.status_code == 200
    assert 'data-fact="order-placed"' in page.text
    await shop.settled()
    for address in (path, f"{path}/fragment"):
        done = (await shop.http.get(address)).text
        assert 'data-fact="item-shipped"' in done
        assert "€13.98" in done
        assert "EUR" not in done, "money is written in one way on a page"
    assert path.removeprefix("/orders/") in (await shop.http.get("/orders?status=completed")).text


@pytest.mark.parametrize(
    "change, words",
    [({"quantity.cheese": "0"}, "quantity"), ({"quantity.cheese": "many"}, "quantity"), ({"sku": "caviar"}, "product")],
)
async def test_a_refused_purchase_is_told_in_the_shop(shop: Shop, change, words):
    """With the choices kept, and the API's status."""
    answer = await shop.http.post("/buy", data={**FORM, "customer_id": "grace", **change})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert words in answer.text
    assert 'value="grace"' in answer.text


async def test_cancelling_and_delivering_by_form(shop: Shop):
    """303 back to where the form was; what cannot be done is an error page."""
    path = await bought(shop)
    await shop.settled()
    answer = await shop.http.post(f"{path}/deliver", data={"return_to": "/orders?status=completed"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/orders?status=completed")
    assert 'data-fact="order-delivered"' in (await shop.http.get(path)).text
    for action, data in (("deliver", {}), ("cancel", {"reason": "late"})):
        refused = await shop.http.post(f"{path}/{action}", data=data)
        assert refused.status_code == 409
        assert refused.headers["content-type"].startswith("text/html")
    again = await shop.place(review_seconds=60)
    cancelled = await shop.http.post(f"/orders/{again['order_id']}/cancel", data={"reason": "no", "return_to": "//evil"})
    assert (cancelled.status_code, cancelled.headers["Location"]) == (303, f"/orders/{again['order_id']}")
    no_reason = await shop.http.post(f"/orders/{again['order_id']}/cancel", data={})
    assert no_reason.status_code == 422


async def test_errors_are_pages_for_people(shop: Shop):
    """And problems for programs."""
    for path in ("/nothing", "/orders/nothing", "/orders/01a1fef5-6e1c-7222-9a40-255a7797ff4e"):
        page = await shop.http.get(path, headers=HTML)
        assert page.status_code == 404
        assert "<h1>" in page.text
    assert (await shop.http.get("/orders?status=nothing", headers=HTML)).status_code == 422
    assert (await shop.http.get("/nothing")).json()["type"] == "/problems/unknown-path"


@pytest.mark.parametrize("path", ["/nothing", "/orders/nothing", "/orders", "/api/nothing", "/api/orders/nothing", "/static/nothing.css"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_every_answer_says_once_what_it_is(shop: Shop, method, path):
    """One content type with at most one charset, and no guessing: found or not, allowed or not, for browsers and programs."""
    for headers in (HTML, {}):
        answer = await shop.http.request(method, path, headers=headers)
        types = answer.headers.get_list("content-type")
        assert types in (["text/html; charset=utf-8"], ["application/problem+json"]), types
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers.get_list("content-length") == [answer.headers["content-length"]]
        if answer.status_code == 405:
            assert "GET" in answer.headers["allow"]


async def test_what_a_page_names_is_there(shop: Shop):
    """Every style, script, picture and link of every page is served here, and nothing comes from elsewhere."""
    path = await bought(shop)
    await shop.settled()
    for page_path in ("/", "/orders", path, "/docs"):
        page = await shop.http.get(page_path)
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        for name in set(re.findall(r'(?:src|href)="([^"#]+)', page.text)):
            assert not name.startswith(("http", "//")), name
            answer = await shop.http.get(urljoin(page_path, name.replace("&amp;", "&")))
            assert answer.status_code == 200, name
    assert (await shop.http.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"


async def test_static_files_are_checked_by_their_tag(shop: Shop):
    """304 while they are the same; modules name each other, so each is served by its own name."""
    for name in ("js/order.js", "css/frame.css", "pictures/cheese.svg", "favicon.svg"):
        first = await shop.http.get(f"/static/{name}")
        assert first.status_code == 200
        again = await shop.http.get(f"/static/{name}", headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    for name in ("../web/pages.py", "%2e%2e/html.py", "js/nothing.js", "js/../../html.py"):
        assert (await shop.http.get(f"/static/{name}")).status_code == 404
