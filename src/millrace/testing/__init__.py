"""The testing kit: specifications on values, applications under test, and the conformance suite for engines.

    from millrace.testing import given, settled

Neighbours: users' tests import from here; the toolkit itself never does. The pytest plugin is found by its entry point; a new engine
hands itself to `millrace.testing.conformance`.
"""

from millrace.clock import ManualClock, VirtualClock
from millrace.testing.settling import NotSettled, advance, eventually, settled
from millrace.testing.specification import given

__all__ = ["ManualClock", "NotSettled", "VirtualClock", "advance", "eventually", "given", "settled"]
