"""Where the pages of the order list are, and where a form leads back to. Pure.

Neighbours: `rendering` hands `paging` to the templates, `pages` asks for the way back.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode

_PAGES_BACK = 20


@dataclass(frozen=True, slots=True)
class Paging:
    """Addresses of the neighbouring pages of the order list; None where there is none."""

    newer: str | None
    older: str | None


def paging(status: str, cursor: str, back: str, following: str | None) -> Paging:
    """Work out the addresses of the newer and the older page of the order list.

    `cursor` is the one of this page (empty for the first), `following` the one that the API gave for the next, and
    `back` what the address carried under that name: the cursors passed on the way here.
    """
    trail = [unquote(part) for part in back.split(",")] if back else []
    older = _orders_at(status, following, [*trail, cursor][-_PAGES_BACK:] if cursor else []) if following else None
    newer = _orders_at(status, trail[-1] if trail else "", trail[:-1]) if cursor else None
    return Paging(newer, older)


def _orders_at(status: str, cursor: str, trail: list[str]) -> str:
    back = ",".join(quote(part, safe="") for part in trail)
    query = {key: value for key, value in (("status", status), ("cursor", cursor), ("back", back)) if value}
    return f"/orders?{urlencode(query)}" if query else "/orders"


def return_path(wanted: str | None, order_id: str) -> str:
    """Choose where a form leads back to: the list it was sent from if it names it, else the order's own page."""
    clean = wanted is not None and wanted.isprintable() and "\\" not in wanted
    if clean and wanted is not None and (wanted == "/orders" or wanted.startswith("/orders?")):
        return wanted
    return f"/orders/{quote(order_id, safe='')}"
