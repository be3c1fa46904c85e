"""The faults. Each harms a shop under traffic at a moment that chance has chosen, and says what has to be seen for it to count.

Neighbours: `run` carries them out.
"""

from __future__ import annotations

import time

from tests.faults.installation import Installation
from tests.faults.run import Kind, Run
from tests.faults.servers import Needs, Servers

SESSION_S = 6.0
OUTAGE_S = 60.0
CHANGES_S = 60.0
MOVED_S = 60.0
WHOLE_S = 120.0
SEEN_S = 60.0


def kill_service(run: Run) -> float:
    """Kill -9 of one of two processes; a supervisor starts it again, at once or after others have had to take over."""
    run.shop.kill(run.chance.choice(run.shop.running))
    killed = time.monotonic()
    run.show(f"started again after {run.wait(0.0, 1.5 * SESSION_S):.1f} s")
    run.shop.start()
    return killed


def kill_node(run: Run) -> float:
    """Kill -9 of one of three Kafka nodes, which returns after a while; acks=all and two in sync keep everything."""
    node = run.chance.choice(run.servers.kafka.nodes)
    led = sum(partition.leader == node.number for partition in run.watch.partitions().values())
    node.kill()
    killed = time.monotonic()
    run.watch.until_cluster(lambda found: _are_led(found, but=node.number), "leaders of all partitions", seconds=MOVED_S)
    run.show(f"node {node.number} led {led} partitions; others lead them after {time.monotonic() - killed:.1f} s")
    run.wait(0.0, 4.0)
    run.servers.start_nodes()
    run.watch.until_cluster(lambda found: all(len(each.isrs) == 3 for each in found.values()), "all nodes in sync", seconds=WHOLE_S)
    return killed


def _are_led(found: dict[object, object], *, but: int) -> bool:
    return all(getattr(each, "leader", -1) not in {-1, but} for each in found.values())


def kafka_gone(run: Run) -> float:
    """All of Kafka is killed and comes back after a minute; commands go on meanwhile, events follow."""
    for node in run.servers.kafka.nodes:
        node.kill()
    gone = time.monotonic()
    records, answered = run.watch.records, len(run.traffic.answered)
    run.wait(OUTAGE_S, OUTAGE_S)
    taken = len(run.traffic.answered) - answered
    slowest, in_vain = run.traffic.slowest(gone), run.traffic.reasons(gone)
    run.show(f"{taken} orders taken without Kafka, slowest {slowest:.2f} s")
    assert not in_vain, f"commands failed while Kafka was away: {in_vain}"
    assert run.watch.records - records < run.row.rate, "Kafka was not away"
    run.servers.start_nodes()
    return time.monotonic()


def store_restarted(run: Run) -> float:
    """PostgreSQL is stopped as its operator does, and started again."""
    run.servers.stop_store()
    run.servers.start_store()
    return time.monotonic()


def store_killed(run: Run) -> float:
    """PostgreSQL is killed -9 with all its processes, and started again after a while."""
    run.servers.kill_store()
    run.show(f"away for {run.wait(0.0, 3.0):.1f} s")
    run.servers.start_store()
    return time.monotonic()


def stopped_instance(run: Run) -> float:
    """One of two processes stands still for longer than its session, and goes on with what it had in hand."""
    victim = run.chance.choice(run.shop.running)
    victim.process.stop()
    run.show(f"stood still for {run.wait(SESSION_S + 3.0, SESSION_S + 8.0):.1f} s")
    victim.process.resume()
    continued = time.monotonic()
    victim.process.until(lambda: run.shop.fenced > 0, timeout=SEEN_S)
    return continued


def joining_and_leaving(run: Run) -> float:
    """For a minute processes join and leave beside one that stays; each leaves when it has had work."""
    end = time.monotonic() + CHANGES_S
    joined = 0
    while time.monotonic() < end:
        instance = run.shop.start()
        joined += 1
        instance.process.until(lambda instance=instance: instance.handled > 0, timeout=SEEN_S)
        run.wait(0.5, 4.0)
        others = run.shop.running[1:]
        if len(others) > 1 or run.chance.random() < 0.5:
            run.shop.leave(run.chance.choice(others))
    run.show(f"{joined} joined")
    return time.monotonic()


def one_instance(shop: Installation, servers: Servers) -> None:
    """Start one process of all services."""
    shop.start()


def behind_a_detour(shop: Installation, servers: Servers) -> None:
    """Start two processes that do not publish, and a relay process that reaches Kafka by a detour: it publishes everything."""
    shop.start(relay="off")
    shop.start_relay("detoured", log=f"kafka://127.0.0.1:{servers.detour.port}")
    shop.start(relay="off")


def two_relays(run: Run) -> float:
    """What the relay that publishes has sent stays on its way until a second one has taken over and sent it too."""
    run.servers.detour.hold()
    held = time.monotonic()
    run.shop.start_relay("direct")
    run.watch.until(lambda: _is_told_of_any(run, came_after=held), "the second relay publishes", seconds=SEEN_S)
    run.show(f"the second relay published after {time.monotonic() - held:.1f} s")
    run.wait(0.0, 3.0)
    run.servers.detour.release()
    return held


def _is_told_of_any(run: Run, *, came_after: float) -> bool:
    """Return whether the log has a fact of somebody who came after a moment."""
    return any(run.watch.facts.get(customer.order_id) for customer in run.traffic.newcomers(came_after))


def full_disk(run: Run) -> float:
    """The disk of the store is full for a while."""
    disk = run.servers.disk
    assert disk is not None
    disk.fill()
    try:
        run.watch.until_cluster(lambda _: run.traffic.reasons(run.began)["503"] > 0, "an order refused", seconds=SEEN_S)
        run.show(f"full for {run.wait(1.0, 5.0):.1f} s")
    finally:
        disk.free()
    return time.monotonic()


def _was_under_way(run: Run) -> str:
    """A fault counts when orders were in flight."""
    return "" if run.row.in_flight else "no order was in flight"


def _was_noticed(run: Run) -> str:
    """Besides, somebody must have been refused."""
    return _was_under_way(run) or ("" if run.traffic.refused else "nobody noticed that the store was away")


def _was_fenced(run: Run) -> str:
    """A late commit must have been refused."""
    return "" if run.shop.fenced else "no commit of the process that stood still was refused"


def _has_repeated(run: Run) -> str:
    """Two relays must have sent the same rows."""
    return "" if run.watch.repeats else "no record came twice"


ALL = (
    Kind("kill-service", kill_service, _was_under_way),
    Kind("kafka-node", kill_node, _was_under_way, Needs(nodes=3)),
    Kind("kafka-gone", kafka_gone, _was_under_way),
    Kind("store-restarted", store_restarted, _was_noticed),
    Kind("store-killed", store_killed, _was_noticed),
    Kind("stopped-instance", stopped_instance, _was_fenced),
    Kind("joining-and-leaving", joining_and_leaving, _was_under_way, open=one_instance),
    Kind("two-relays", two_relays, _has_repeated, Needs(detour=True), behind_a_detour),
    Kind("full-disk", full_disk, _was_noticed, Needs(small_disk=True)),
)
KINDS = {kind.name: kind for kind in ALL}
