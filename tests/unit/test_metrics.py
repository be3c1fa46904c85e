"""Figures for Prometheus: well-formed, by the conventions' names, and those that were there before."""

from __future__ import annotations

import re
from pathlib import Path

from millrace import Application, RetryPolicy
from millrace.engines.sqlite import SqliteEngine
from millrace.lag_clock import NOTES_MAX, LagClock
from millrace.testing import settled
from millrace.testing.conformance.sample import APPLICATION, Add, Behaviour, counter, teller

SAMPLE = re.compile(r"(?P<name>[a-z_]+)\{(?P<labels>[a-z_]+=\"[^\"]*\"(,[a-z_]+=\"[^\"]*\")*)\} (?P<value>-?[0-9]+(\.[0-9]+)?)")
PLACE = ("t", 0)


async def figures(folder: Path) -> tuple[str, list[re.Match[str]]]:
    """What a small application tells after ten messages, one of which is dead."""
    behaviour = Behaviour()

    def fail(event, context) -> None:
        if event.name == "bad":
            raise ArithmeticError

    behaviour.count = fail
    policy = RetryPolicy(attempts=2, first_s=0.0)
    async with Application(APPLICATION, [teller(), counter(behaviour)], engine=SqliteEngine(folder), policy=policy) as app:
        for name in [*"abcdefghi", "bad"]:
            await app.execute(Add(name=name))
        await settled(app)
        await app.hosts["counter"].watch.look()
        text = app.metrics()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = [SAMPLE.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    return text, [match for match in found if match]


async def test_every_line_is_a_sample_of_a_declared_family(tmp_path: Path) -> None:
    """Each family has one help and one type, before its samples; no series comes twice."""
    text, samples = await figures(tmp_path / "data")
    families = re.findall(r"^# TYPE ([a-z_]+) (?:counter|gauge|histogram)$", text, re.MULTILINE)
    assert len(families) == len(set(families)) == len(re.findall(r"^# HELP ", text, re.MULTILINE))
    names = {re.sub(r"_(bucket|sum|count)$", "", match["name"]) if "duration" in match["name"] else match["name"] for match in samples}
    assert names <= set(families)
    assert len({(match["name"], match["labels"]) for match in samples}) == len(samples)


async def test_figures_say_what_happened(tmp_path: Path) -> None:
    """Consumed, handled, retried, dead, sent and held add up; the histogram is cumulative."""
    _, samples = await figures(tmp_path / "data")
    found = {(match["name"], match["labels"]): float(match["value"]) for match in samples}
    process = 'messaging_system="millrace",messaging_operation_name="process",messaging_consumer_group_name="counter.handlers"'
    assert found["messaging_client_consumed_messages_total", process] == 10
    assert (
        found["messaging_client_sent_messages_total", 'messaging_system="millrace",messaging_operation_name="send",service="teller"'] == 10
    )
    mine = 'service="counter",processor="handlers"'
    names = ("millrace_handled_total", "millrace_retries_total", "millrace_dead_total", "millrace_lag_messages", "millrace_lag_seconds")
    assert [found[name, mine] for name in names] == [9, 1, 1, 0, 0]
    assert found["millrace_held_messages", f'{mine},state="dead"'] == 1
    buckets = [value for (name, labels), value in found.items() if name.endswith("_bucket") and labels.startswith(process)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["messaging_process_duration_seconds_count", process] > 0
    assert found["messaging_process_duration_seconds_sum", process] > 0


async def test_names_that_existed_are_there(tmp_path: Path) -> None:
    """Dashboards of before go on."""
    text, _ = await figures(tmp_path / "data")
    for name in ("commits_total", "commands_waiting", "lag_messages", "held_keys", "handled_total", "running", "fenced_total"):
        assert f"# TYPE millrace_{name} " in text


def test_lag_is_as_old_as_what_is_next() -> None:
    """The age is that of the first end above the position; it shrinks as the position moves, and is 0 at the end."""
    clock = LagClock()
    for second in range(10):
        clock.note(float(second), {PLACE: second * 10}, [{PLACE: 0}])
    ends = {PLACE: 90}
    assert clock.behind_s(12.0, ends, {PLACE: 0}) == 11.0
    assert clock.behind_s(12.0, ends, {PLACE: 45}) == 7.0
    assert clock.behind_s(12.0, ends, {PLACE: 90}) == 0.0


def test_lag_keeps_a_bounded_number_of_notes() -> None:
    """A backlog of hours gets coarser, never younger and never larger in memory."""
    clock = LagClock()
    for second in range(5000):
        clock.note(float(second), {PLACE: second + 1}, [{PLACE: 0}])
    assert sum(map(len, clock._notes.values())) <= NOTES_MAX
    assert clock.behind_s(5000.0, {PLACE: 5000}, {PLACE: 0}) == 5000.0
    assert 0 <= clock.behind_s(5000.0, {PLACE: 5000}, {PLACE: 4900}) <= 100.0
