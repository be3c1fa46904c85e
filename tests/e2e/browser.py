"""A person in front of a browser: a page of a shop, and everything that goes wrong on it.

Neighbours: `test_pages` drives headless Chromium with it.
"""

from __future__ import annotations

import shutil
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, Request, Response

from tests.e2e.running_shop import RunningShop

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
LEFT = "net::ERR_ABORTED"
"""How requests end whose page was left while they ran; the stream of facts always does."""


class Visitor:
    """One window.

    Args:
        context: browser settings.
        shop: whose pages are looked at.
    """

    def __init__(self, context: BrowserContext, shop: RunningShop) -> None:
        self.shop = shop
        self.page: Page = context.new_page()
        self.wrong: list[str] = []
        self.loads = 0
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._said)
        self.page.on("pageerror", self._raised)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)
        self.page.on("request", self._asked)
        self.page.on("domcontentloaded", self._loaded)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    def _raised(self, error: Error) -> None:
        self.wrong.append(f"script: {error}")

    def _failed(self, request: Request) -> None:
        if request.failure != LEFT:
            self.wrong.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.shop.url}/", "data:")):
            self.wrong.append(f"another host: {request.url}")

    def _loaded(self, _: Any) -> None:
        self.loads += 1

    def go(self, path: str) -> Page:
        """Open a page of the shop."""
        self.page.goto(f"{self.shop.url}{path}")
        return self.page

    def buy(self, sku: str, *, customer: str = "ada", token: str = "tok_ok") -> str:
        """Buy something in the shop as a person does, and return the order."""
        self.go("/")
        self.page.fill("input[name=customer_id]", customer)
        self.page.check(f"input[name=payment_token][value={token}]")
        self.page.click(f"[data-product={sku}] button[name=sku]")
        self.page.wait_for_url("**/orders/*")
        return self.page.url.rsplit("/", 1)[-1]

    def follow(self, selector: str) -> None:
        """Click what leads to another page without scripts, and return when that page is complete."""
        with self.page.expect_navigation():
            self.page.click(selector)

    def facts(self) -> list[str]:
        """Return what the timeline says has happened."""
        return [str(each.get_attribute("data-fact")) for each in self.page.query_selector_all("[data-fact]")]

    def wait_for_fact(self, fact: str) -> None:
        """Return when the page shows a fact."""
        self.page.wait_for_selector(f'[data-fact="{fact}"]')
