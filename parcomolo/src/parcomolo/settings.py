"""The values that shape behaviour, handed to the contexts when the application is assembled.

Where they come from (environment, arguments) is the entry point's business; defaults are the public contract's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Business settings, all durations.

    Args:
        shipping_delay: from the carrier's booking until the parcel leaves (`PARCOMOLO_SHIPPING_DELAY`).
        late_delivery: a delivery that took longer is late (`PARCOMOLO_LATE_DELIVERY`).
        late_grace: how much longer operations waits for a delivery before it judges that there was none.
        reservation_ttl: how long stock stays reserved without a payment.
    """

    shipping_delay: timedelta = timedelta(seconds=3)
    late_delivery: timedelta = timedelta(seconds=30)
    late_grace: timedelta = timedelta(seconds=1)
    reservation_ttl: timedelta = timedelta(minutes=15)
