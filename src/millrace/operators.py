"""What those need who look after an application, in one place: `from millrace.operators import Consumers, DeadLetters, ...`.

    Agenda            timers that wait, schedules
    Consumers         pause, stop, start, restart, workers, reset, rewind, close a breaker
    DeadLetters       list, show, redrive, edit, discard, export; `LetterQuery` says which
    Sagas             where they stand; retry, skip, take over
    trace_message     why is this message here?
    set_up_log        lines of text or JSON
    AlarmRaised, AlarmCleared    what is wrong, as events that a handler may take

Neighbours: every name has its home in a module of its own; command line and console use the same ones. What declares an application is in
`millrace` itself.
"""

from millrace.agenda import Agenda
from millrace.alarm import AlarmCleared, AlarmRaised
from millrace.consumers import Consumers
from millrace.dead_letters import DeadLetters
from millrace.letters import LetterQuery
from millrace.log_lines import set_up_log
from millrace.message_trace import trace_message
from millrace.sagas import Sagas

__all__ = [
    "Agenda",
    "AlarmCleared",
    "AlarmRaised",
    "Consumers",
    "DeadLetters",
    "LetterQuery",
    "Sagas",
    "set_up_log",
    "trace_message",
]
