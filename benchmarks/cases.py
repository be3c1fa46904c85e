"""The cases: what is measured against what, with how much work, and what Millrace promises for each figure.

The first side of a case is the one a promised ratio refers to; sides in between are references; the last one is
Millrace.
"""

from benchmarks.harness import Case, Metric, Side

W1 = Case(
    "w1",
    "W1, 200,000 CloudEvents of 10,000 keys: consume, fold keyed state, emit one each, journal, relay, all committed",
    (
        Side("twin by hand", "benchmarks.peers.twin_sqlite", (), ("--n", "100000")),
        Side("Millrace", "benchmarks.sides.w1", (), ("--n", "100000")),
    ),
    (
        Metric("rate", "messages/s", ratio=0.6),
        Metric("cpu_us", "CPU us a message", lower_is_better=True, digits=1),
        Metric("rss_growth_percent", "memory growth from half to all, %", lower_is_better=True, limit=10, digits=1),
        Metric("rss_peak_mib", "peak memory, MiB", lower_is_better=True),
    ),
)
EVENTSTORE = Case(
    "eventstore",
    "Event store: saves of two events, loads of streams of 10 and of 1,000 events",
    (
        Side("eventsourcing", "benchmarks.peers.eventsourcing_sqlite", (), ("--saves", "2000")),
        Side("bare group commit", "benchmarks.peers.group_commit", (), ("--saves", "16000")),
        Side("Millrace", "benchmarks.sides.eventstore", (), ("--saves", "8000")),
    ),
    (
        Metric("saves_32", "saves/s, 32 callers", ratio=4),
        Metric("saves_1", "saves/s, one caller"),
        Metric("loads_10", "loads/s of 10 events", ratio=3),
        Metric("loads_1000", "loads/s of 1,000 events", ratio=10),
        Metric("loads_10_replayed", "loads/s of 10 events, without snapshots"),
        Metric("loads_1000_replayed", "loads/s of 1,000 events, without snapshots"),
    ),
)
HTTP = Case(
    "http",
    "POST /api/orders, 32 connections, one process each",
    (
        Side("FastAPI + SQLAlchemy", "benchmarks.sides.orders_http", ("fastapi",), ("fastapi", "--seconds", "3")),
        Side("Millrace", "benchmarks.sides.orders_http", ("parcomolo",), ("parcomolo", "--seconds", "3")),
    ),
    (
        Metric("rate", "orders/s", ratio=6),
        Metric("p50_ms", "p50 ms", lower_is_better=True, digits=1),
        Metric("p99_ms", "p99 ms", lower_is_better=True, ratio=1, digits=1),
        Metric("cpu_us", "server CPU us an order", lower_is_better=True),
    ),
)
SHOP = Case(
    "shop",
    "Whole shop, from placed to completed, no shipping delay",
    (Side("Millrace", "benchmarks.sides.shop", (), ("--seconds", "3")),),
    (
        Metric("completed_rate", "orders/s from placed to completed"),
        Metric("p50_ms", "p50 ms from POST to completed at 50 orders/s", lower_is_better=True, digits=1),
        Metric("p99_ms", "p99 ms from POST to completed at 50 orders/s", lower_is_better=True, limit=100, digits=1),
        Metric("facts_p99_ms", "p99 ms between the facts placed and completed", lower_is_better=True, digits=1),
        Metric("answer_p99_ms", "p99 ms of the answer at 50 orders/s", lower_is_better=True, digits=1),
    ),
)
STYLES = Case(
    "styles",
    "Whole shop, from placed to completed: a saga that commands the services beside services that react to each other",
    (
        Side("choreography", "benchmarks.sides.shop", ("--checkout", "choreography"), ("--checkout", "choreography", "--seconds", "3")),
        Side("orchestration", "benchmarks.sides.shop", (), ("--seconds", "3")),
    ),
    (
        Metric("completed_rate", "orders/s from placed to completed", ratio=0.6),
        Metric("p50_ms", "p50 ms from POST to completed at 50 orders/s", lower_is_better=True, digits=1),
        Metric("p99_ms", "p99 ms from POST to completed at 50 orders/s", lower_is_better=True, digits=1),
    ),
)
IDLE = Case(
    "idle",
    "All services in one process, nothing to do",
    (Side("Millrace", "benchmarks.sides.idle", (), ("--seconds", "5")),),
    (
        Metric("ready_s", "start to ready, s", lower_is_better=True, limit=2, digits=2),
        Metric("restart_s", "restart to ready, s", lower_is_better=True, limit=2, digits=2),
        Metric("rss_mib", "resident memory, MiB", lower_is_better=True, limit=300),
        Metric("cpu_percent", "CPU, % of one core", lower_is_better=True, limit=3, digits=2),
    ),
)
BACKPRESSURE = Case(
    "backpressure",
    "A producer 10 times faster than its handler for 60 s",
    (Side("Millrace", "benchmarks.sides.backpressure", (), ("--seconds", "40")),),
    (
        Metric("growth_percent", "memory growth, %", lower_is_better=True, limit=10, digits=1),
        Metric("rss_mib", "resident memory at the end, MiB", lower_is_better=True),
        Metric("produced_rate", "produced/s"),
        Metric("handled_rate", "handled/s"),
    ),
)
W1_SERVERS = Case(
    "servers-w1",
    "W1 on Kafka and PostgreSQL, the last 70 % of the outputs",
    (
        Side("twin by hand", "benchmarks.peers.twin_servers", (), ("--n", "50000")),
        Side("FastStream + SQLAlchemy", "benchmarks.sides.w1_faststream", (), ("--n", "1000")),
        Side("Millrace", "benchmarks.sides.w1", ("--on", "servers"), ("--on", "servers", "--n", "50000")),
    ),
    (
        Metric("warm_rate", "messages/s", ratio=0.6, beside={"FastStream + SQLAlchemy": 60}),
        Metric("cpu_us", "CPU us a message", lower_is_better=True, digits=1),
        Metric("rss_peak_mib", "peak memory, MiB", lower_is_better=True),
    ),
)
ORDERS = "benchmarks.sides.orders_http"
HTTP_SERVERS = Case(
    "servers-http",
    "POST /api/orders on Kafka and PostgreSQL, 32 connections, one process each; what is stored is published and listed elsewhere",
    (
        Side("FastAPI + SQLAlchemy", ORDERS, ("fastapi", "--on", "servers"), ("fastapi", "--on", "servers", "--seconds", "3")),
        Side("published and listed here", ORDERS, ("parcomolo", "--on", "servers"), ("parcomolo", "--on", "servers", "--seconds", "3")),
        Side("Millrace", ORDERS, ("taking", "--on", "servers"), ("taking", "--on", "servers", "--seconds", "3")),
    ),
    (
        Metric("rate", "orders/s", ratio=8),
        Metric("p50_ms", "p50 ms", lower_is_better=True, digits=1),
        Metric("p99_ms", "p99 ms", lower_is_better=True, limit=12, digits=1),
        Metric("cpu_us", "server CPU us an order", lower_is_better=True),
    ),
)
LATENCY_SERVERS = Case(
    "servers-latency",
    "From topic to topic at 500 messages/s on Kafka and PostgreSQL: consumed, folded, journalled, visible again",
    (Side("Millrace", "benchmarks.sides.latency", (), ("--seconds", "3")),),
    (
        Metric("p50_ms", "p50 ms", lower_is_better=True, limit=15, digits=1),
        Metric("p99_ms", "p99 ms", lower_is_better=True, limit=40, digits=1),
        Metric("cpu_us", "CPU us a message", lower_is_better=True),
    ),
)
RELAY = "benchmarks.sides.relay"
RELAY_SERVERS = Case(
    "servers-relay",
    "200,000 journal rows, 100 per transaction, published meanwhile and afterwards; then 500 rows/s, from insert until visible",
    (
        Side("Debezium, tuned", RELAY, ("debezium", "--tuned"), ("debezium", "--tuned", "--rows", "60000", "--seconds", "3")),
        Side("Debezium", RELAY, ("debezium",), ("debezium", "--rows", "60000", "--seconds", "3")),
        Side("Millrace", RELAY, ("millrace",), ("millrace", "--rows", "60000", "--seconds", "3")),
    ),
    (
        Metric("rate", "rows/s while they are written", ratio=1.2, beside={"Debezium": 1.2}),
        Metric("drained_rate", "rows/s from a backlog", ratio=1.2, beside={"Debezium": 1.2}),
        Metric("written_rate", "rows/s written meanwhile"),
        Metric("p50_ms", "p50 ms", lower_is_better=True, digits=1),
        Metric("p99_ms", "p99 ms", lower_is_better=True, ratio=1, beside={"Debezium": 1}, digits=1),
        Metric("cpu_us", "relay CPU us a row", lower_is_better=True, digits=1),
    ),
)
JOURNAL_SERVERS = Case(
    "servers-journal",
    "The relay on an empty journal and on one with 10 million published rows",
    (
        Side("empty", RELAY, ("millrace",), ("millrace", "--rows", "60000", "--seconds", "3")),
        Side(
            "Millrace",
            RELAY,
            ("millrace", "--journal", "10000000"),
            ("millrace", "--rows", "60000", "--seconds", "3", "--journal", "1000000"),
        ),
    ),
    (
        Metric("drained_rate", "rows/s from a backlog", ratio=0.8),
        Metric("rate", "rows/s while they are written", ratio=0.8),
        Metric("p99_ms", "p99 ms", lower_is_better=True, digits=1),
        Metric("cpu_us", "relay CPU us a row", lower_is_better=True, digits=1),
    ),
    long=True,
)
PROCESSES_SERVERS = Case(
    "servers-processes",
    "W1 on Kafka and PostgreSQL by two processes of one application, beside one",
    (
        Side("one process", "benchmarks.sides.w1_processes", ("--processes", "1"), ("--processes", "1", "--n", "100000")),
        Side("Millrace", "benchmarks.sides.w1_processes", ("--processes", "2"), ("--processes", "2", "--n", "100000")),
    ),
    (
        Metric("rate", "messages/s", ratio=1.3),
        Metric("cpu_us", "CPU us a message", lower_is_better=True, ratio=0.87, digits=1),
    ),
)
WORKERS_SERVERS = Case(
    "servers-workers",
    "An activity that awaits 20 ms a message, on Kafka and PostgreSQL: one worker and ten, order per key verified",
    (
        Side(
            "one worker",
            "benchmarks.sides.workers",
            ("--on", "servers", "--workers", "1", "--messages", "400"),
            ("--on", "servers", "--workers", "1", "--messages", "100"),
        ),
        Side(
            "Millrace",
            "benchmarks.sides.workers",
            ("--on", "servers", "--workers", "10"),
            ("--on", "servers", "--workers", "10", "--messages", "500"),
        ),
    ),
    (
        Metric("rate", "messages/s", ratio=8),
        Metric("cpu_us", "CPU us a message", lower_is_better=True),
    ),
)
IDLE_SERVERS = Case(
    "servers-idle",
    "All services in one process on Kafka and PostgreSQL, nothing to do",
    (Side("Millrace", "benchmarks.sides.idle", ("--on", "servers"), ("--on", "servers", "--seconds", "5")),),
    (
        Metric("ready_s", "start to ready, s", lower_is_better=True, digits=2),
        Metric("restart_s", "restart to ready, s", lower_is_better=True, digits=2),
        Metric("rss_mib", "resident memory, MiB", lower_is_better=True, limit=600),
        Metric("cpu_percent", "CPU, % of one core", lower_is_better=True, limit=10, digits=2),
    ),
)
WORKERS = Case(
    "workers",
    "An activity that awaits 20 ms a message: one worker and ten, order per key verified",
    (
        Side("one worker", "benchmarks.sides.workers", ("--workers", "1", "--messages", "400"), ("--workers", "1", "--messages", "100")),
        Side("ten workers", "benchmarks.sides.workers", ("--workers", "10"), ("--workers", "10", "--messages", "500")),
    ),
    (
        Metric("rate", "messages/s", ratio=8),
        Metric("cpu_us", "CPU us a message", lower_is_better=True),
    ),
)
SAGA = Case(
    "saga",
    "A saga of three steps against three handlers in stores of their own, from the first order to the last end",
    (
        Side("DBOS, a workflow of three steps", "benchmarks.sides.saga_dbos", (), ("--n", "300")),
        Side("Millrace", "benchmarks.sides.saga", ("--n", "20000"), ("--n", "8000")),
    ),
    (
        Metric("rate", "sagas/s", ratio=20),
        Metric("cpu_us", "CPU us a saga", lower_is_better=True),
    ),
)
SAGA_SERVERS = Case(
    "servers-saga",
    "The same with the stores on PostgreSQL; the log on SQLite, and on Kafka",
    (
        Side(
            "DBOS, a workflow of three steps",
            "benchmarks.sides.saga_dbos",
            ("--on", "postgres", "--callers", "32"),
            ("--on", "postgres", "--callers", "32", "--n", "300"),
        ),
        Side("Millrace, Kafka", "benchmarks.sides.saga", ("--on", "servers", "--n", "20000"), ("--on", "servers", "--n", "8000")),
        Side("Millrace", "benchmarks.sides.saga", ("--on", "postgres", "--n", "20000"), ("--on", "postgres", "--n", "8000")),
    ),
    (
        Metric("rate", "sagas/s", ratio=10),
        Metric("cpu_us", "CPU us a saga", lower_is_better=True),
    ),
)
ONE_BAD_KEY = Case(
    "one-bad-key",
    "A handler that always fails for one key of a thousand: what is left of the others' rate",
    (
        Side("no failure", "benchmarks.sides.one_bad_key", (), ("--n", "50000")),
        Side("one bad key", "benchmarks.sides.one_bad_key", ("--failing",), ("--failing", "--n", "50000")),
    ),
    (
        Metric("rate", "messages/s of the other keys", ratio=0.9),
        Metric("cpu_us", "CPU us a message", lower_is_better=True, digits=1),
    ),
)
_TIMERS = ("--timers", "1000000")
TIMERS = Case(
    "timers",
    "W1 while a million timers wait in the same store for the same processor, beside W1 without any",
    (
        Side("no timers", "benchmarks.sides.w1", (), ("--n", "100000")),
        Side("a million timers", "benchmarks.sides.w1", _TIMERS, ("--n", "100000", *_TIMERS)),
    ),
    (
        Metric("rate", "messages/s", ratio=0.95),
        Metric("cpu_us", "CPU us a message", lower_is_better=True, digits=1),
        Metric("rss_peak_mib", "peak memory, MiB", lower_is_better=True),
    ),
)
TIMERS_SERVERS = Case(
    "servers-timers",
    "The same on Kafka and PostgreSQL",
    (
        Side("no timers", "benchmarks.sides.w1", ("--on", "servers"), ("--on", "servers", "--n", "50000")),
        Side("a million timers", "benchmarks.sides.w1", ("--on", "servers", *_TIMERS), ("--on", "servers", "--n", "50000", *_TIMERS)),
    ),
    (Metric("warm_rate", "messages/s", ratio=0.95), Metric("cpu_us", "CPU us a message", lower_is_better=True, digits=1)),
)
EMBEDDED = (W1, EVENTSTORE, HTTP, SHOP, STYLES, IDLE, BACKPRESSURE, WORKERS, ONE_BAD_KEY, SAGA, TIMERS)
SERVERS = (
    W1_SERVERS,
    HTTP_SERVERS,
    LATENCY_SERVERS,
    RELAY_SERVERS,
    JOURNAL_SERVERS,
    PROCESSES_SERVERS,
    WORKERS_SERVERS,
    IDLE_SERVERS,
    SAGA_SERVERS,
    TIMERS_SERVERS,
)
CASES = {case.name: case for case in (*EMBEDDED, *SERVERS)}
