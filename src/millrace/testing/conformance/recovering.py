"""After a restore, `recover` lets everything go on: what is lost is named, what repeats is dropped where it was seen."""

from __future__ import annotations

import pytest

from millrace.application import Application
from millrace.errors import Recovery, StoreUnavailable
from millrace.recovery import RecoveryPlan, plan_recovery, recover
from millrace.testing.conformance.g02_effects_once import add
from millrace.testing.conformance.kit import EngineKit
from millrace.testing.conformance.lab import Lab, balanced, foreign, held, put, totals
from millrace.testing.conformance.sample import Add, Added, Board, Ready

COMMITS = 4
"""More than a recovery does on one store."""


def _agree(plan: RecoveryPlan) -> bool:
    return True


async def _recovered(lab: Lab) -> RecoveryPlan:
    """Recover; what was planned before without changing anything is what is done."""
    planned = await plan_recovery(lab.new())
    done = await recover(lab.new(), agree=_agree)
    assert [each.service for each in done.sources] == [each.service for each in planned.sources]
    assert [each.lost for each in done.sources] == [each.lost for each in planned.sources]
    assert not (await plan_recovery(lab.new())).needed
    return done


async def _goes_on(lab: Lab, name: str) -> Application:
    """Start again, and see what is said now arrive everywhere."""
    app = await lab.start()
    outcome = await app.execute(Add(name=name))
    await app.wait_for(Board, outcome.position, timeout=lab.kit.patience)
    await lab.settled()
    await balanced(app)
    return app


async def older_store_goes_on(kit: EngineKit) -> None:
    """A store was restored from an older copy: the facts it lost are named, its next ones get positions of a new epoch and are read."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=2)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.save_copy("teller")

        app = await lab.start()
        await add(app, "b", times=2)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.restore_copy("teller")
        refused = lab.new()
        with pytest.raises(Recovery, match="millrace recover"):
            await refused.start()

        plan = await _recovered(lab)
        (source,) = plan.sources
        assert (source.service, source.head, source.published, source.resumes, source.again) == ("teller", 2, 4, 2, 0)
        assert [(fact.topic, fact.key) for fact in source.lost] == [("tally", "b"), ("tally", "b")]

        app = await _goes_on(lab, "c")
        seen = await totals(app)
        assert (seen["a"], seen["b"], seen["c"]) == ((1, 2), (1, 2), (1,))
        assert app.hosts["teller"].saying.epoch == source.new_epoch


async def copy_from_before_a_recovery_is_noticed(kit: EngineKit) -> None:
    """The same old copy once more: the log knows a later epoch of its source, and that is refused and recovered like the first time."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=1)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.save_copy("teller")
        for name in ("b", "c"):
            app = await _goes_on(lab, name)
            await lab.stop(app)
            await kit.damage.restore_copy("teller")
            refused = lab.new()
            with pytest.raises(Recovery):
                await refused.start()
            plan = await _recovered(lab)
            assert {fact.key for fact in plan.sources[0].lost} >= {name}
        app = await _goes_on(lab, "d")
        assert await totals(app) == dict.fromkeys("abcd", (1,))


async def lost_store_goes_on(kit: EngineKit) -> None:
    """A reader's store from before everything: it reads the log again from where the copy stood, and ends where it was."""
    async with Lab(kit) as lab:
        app = await lab.open()
        await lab.stop(app)
        await kit.damage.save_copy("counter")
        app = await lab.start()
        await add(app, "a", times=3)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.restore_copy("counter")

        plan = await _recovered(lab)
        assert [(each.service, len(each.lost)) for each in plan.sources] == [("counter", 3)]
        app = await _goes_on(lab, "a")
        assert await totals(app) == {"a": (1, 2, 3, 1)}


async def older_log_goes_on(kit: EngineKit) -> None:
    """The log was restored from an older copy: the journals publish what it lost, readers drop what they have seen, held messages stay."""
    async with Lab(kit) as lab:
        lab.behaviour.count = _wait_for_ready
        app = await lab.start()
        await add(app, "a")
        await lab.settled()
        await lab.stop(app)
        await kit.damage.save_copy("log")

        app = await lab.start()
        await add(app, "a", times=2)
        await add(app, "w", times=2)
        await lab.settled()
        assert len(await held(app, "counter")) == 2
        await put(app, "tally", ("f", foreign(app, Added(name="f"))))
        await lab.settled()
        await lab.stop(app)
        await kit.damage.restore_copy("log")

        plan = await _recovered(lab)
        assert {reader.service for reader in plan.readers} >= {"counter"}
        app = await _goes_on(lab, "b")
        assert await totals(app) == {"a": (1, 1, 2), "b": (1,), "f": (1,)}
        assert [row.key for row in await held(app, "counter")] == ["w", "w"]
        await put(app, "ready", ("w", foreign(app, Ready(name="w"), id="ready")))
        await lab.settled()
        assert (await totals(app))["w"] == (1, 2)
        await balanced(app)


def _wait_for_ready(event: Added, context: object) -> object:
    return "wait" if event.name == "w" else None


async def recreated_topic_goes_on(kit: EngineKit) -> None:
    """A topic was lost with records that one reader had not seen: the journal publishes them again under a new epoch, for that reader."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=2)
        await lab.settled()
        await lab.stop(app)
        app = await lab.start(hosted=["teller"])
        await add(app, "a", times=1)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.recreate_topic("tally")

        plan = await _recovered(lab)
        assert [(each.service, each.resumes, each.again, each.lost) for each in plan.sources] == [("teller", 2, 1, ())]
        app = await _goes_on(lab, "a")
        assert await totals(app) == {"a": (1, 2, 1, 1)}


async def running_processes_are_left_alone(kit: EngineKit) -> None:
    """While a process holds partitions, nothing is changed; and who says no changes nothing."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=2)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.recreate_topic("ready")
        app = await lab.start(hosted=["teller"])
        with pytest.raises(StoreUnavailable, match="stop them first"):
            await recover(lab.new(), agree=_agree)
        await lab.stop(app)
        asked: list[RecoveryPlan] = []
        plan = await recover(lab.new(), agree=lambda plan: bool(asked.append(plan)))
        assert asked == [plan]
        assert plan.needed
        assert (await plan_recovery(lab.new())).needed


async def recovery_may_be_cut_short(kit: EngineKit) -> None:
    """Whichever commit of a recovery fails, the next one does what is left, and nothing is published under an epoch that was given up."""
    async with Lab(kit) as lab:
        app = await lab.start()
        await add(app, "a", times=1)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.save_copy("teller")
        app = await lab.start()
        await add(app, "b", times=1)
        await lab.settled()
        await lab.stop(app)
        await kit.damage.restore_copy("teller")

        failed = 0
        for after in range(COMMITS):
            kit.faults.fail_next("teller", after=after)
            try:
                await recover(lab.new(), agree=_agree)
            except StoreUnavailable:
                failed += 1
            kit.faults.forget()
        assert failed
        assert not (await plan_recovery(lab.new())).needed
        app = await _goes_on(lab, "c")
        assert await totals(app) == dict.fromkeys("abc", (1,))


PROMISES = (
    older_store_goes_on,
    copy_from_before_a_recovery_is_noticed,
    lost_store_goes_on,
    older_log_goes_on,
    recreated_topic_goes_on,
    running_processes_are_left_alone,
    recovery_may_be_cut_short,
)
