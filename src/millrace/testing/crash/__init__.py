"""The crash harness: a real process dies, or is stopped, right after its n-th durable operation.

    with Zygote(preload=["shop.main"]) as zygote:
        trap = Trap(steps=folder / "steps", at=17)
        process = zygote.start("shop.main:main", ["serve"], trap=trap, log=folder / "serve.log")
        trap.arm()  # from here on durable operations are counted
        ...  # use it until it dies
        assert process.wait(30.0) == -signal.SIGKILL
        print(trap.read())  # every step: number, service, what became durable

Theory. A process that is killed leaves what it has committed, whatever it was doing; so between two commits every moment to die is the
same as any other, and the commits of a run are all its crash points: before the first, and after each. A test that repeats a run with
n = 0, 1, 2 ... until the run ends alive has tried all of them. The program under test is not prepared for this: `tracing` listens to the
database drivers from outside, and only in the process that was started with a trap.

A **step** is one durable transaction: its number, its service (the name of the file or of the store, or of the client that appended), and
its **operations**, the named statements that wrote. Commits are made one at a time, so when the process dies at step n, what is durable is
steps 1 to n and nothing else. On Kafka, rows that the brokers have acknowledged are a step: as many of an append as go to one partition in
a row, so an append of which only a part is there is a point as well.

Rejected: killing after random times (says nothing about which points were tried), a fault-injecting engine (tests another engine), hooks
in the engine (test code in production).

Neighbours: `counting` decides when, `tracing` listens to drivers, `postgres` and `kafka` to the engines of servers, `zygote` and `forking`
start processes, `process` holds one. As a program, `python -m millrace.testing.crash` runs one entry point with a trap.
"""

from millrace.testing.crash.counting import Step, Trap
from millrace.testing.crash.process import NotInTime, Process
from millrace.testing.crash.zygote import Zygote

__all__ = ["NotInTime", "Process", "Step", "Trap", "Zygote"]
