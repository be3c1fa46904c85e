"""The opening stock of the seed catalogue: what is on the shelf when an installation starts for the first time."""

from __future__ import annotations

OPENING_STOCK: dict[str, int] = {
    "bland": 100,
    "cheese": 50,
    "a-lot-of-cheese": 25,
    "veggie": 60,
    "double-trouble": 40,
    "fries": 200,
    "sweet-fries": 120,
    "onion-rings": 90,
    "coleslaw": 80,
    "cola": 300,
    "lemonade": 250,
    "milkshake": 70,
    "water": 400,
}
