"""The client for questions ends in a thread of its own: librdkafka ends the process where its thread is the one that lets go of it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from millrace.engines.kafka.asking import Asker, Ended
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.settings import KafkaSettings

LETS_GO_WHERE_IT_IS_ANSWERED = """
import threading
from millrace.engines.kafka.client import Client
from millrace.engines.kafka.settings import KafkaSettings

held = [Client(KafkaSettings("127.0.0.1:1", properties={"socket.connection.setup.timeout.ms": "1000"}))]
answered = threading.Event()

def let_go(future):
    held.clear()
    answered.set()

held[0].admin.list_consumer_groups(request_timeout=0.2).add_done_callback(let_go)
assert answered.wait(20)
for thread in threading.enumerate():
    if thread.name == "kafka asker ends":
        thread.join(20)
print("alive")
"""


def test_the_thread_that_answers_may_let_go_last() -> None:
    """The last reference to a client is dropped by the library's own thread, as a collection of garbage may do it."""
    done = subprocess.run([sys.executable, "-c", LETS_GO_WHERE_IT_IS_ANSWERED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


class Ending:
    """What an asker ends."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def __exit__(self, *_: object) -> None:
        self.ended.set()


def test_who_is_asked_is_not_ended() -> None:
    """A client that was retired ends after the last question, and takes no other then."""
    client, owner = Ending(), threading.Event()
    asker = Asker(client, owner)
    with asker.asking():
        asker.retire()
        with asker.asking() as same:
            assert same is client
        assert not client.ended.is_set()
    assert client.ended.wait(10)
    with pytest.raises(Ended), asker.asking():
        pass


def test_a_client_that_is_forgotten_ends() -> None:
    """Nothing keeps the client of somebody who is no more."""
    client = Client(KafkaSettings("127.0.0.1:1"))
    admin = client.admin
    del client
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            admin.poll(0)
        except RuntimeError:
            return
    pytest.fail("still open")
