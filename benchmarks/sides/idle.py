"""Start-up and idling of all services in one process: time to ready, memory and CPU with nothing to do.

Verified: the server answers 200 on ``/ready`` and ``/health`` before and after it idled. Prints one JSON object.

    python -m benchmarks.sides.idle --dir DIR [--on servers] [--seconds 20]
"""

import argparse
import json
import time
from collections.abc import Mapping

from benchmarks.process import usage
from benchmarks.sides.shop_server import get, parcomolo, place

SETTLE = 3.0


def run(directory: str, seconds: float, settings: Mapping[str, str]) -> dict[str, object]:
    """Start on an empty directory, stop, start again, idle."""
    with parcomolo(directory, log="first.log", settings=settings) as server:
        fresh = server.ready_after
        get(f"{server.url}/health")
    with parcomolo(directory, log="again.log", settings=settings) as server:
        get(f"{server.url}/health")
        time.sleep(SETTLE)
        before, begin = usage(server.pid), time.perf_counter()
        time.sleep(seconds)
        after, took = usage(server.pid), time.perf_counter() - begin
        get(f"{server.url}/health")
        get(f"{server.url}/ready")
    return {
        "ready_s": fresh,
        "restart_s": server.ready_after,
        "rss_mib": after.rss_mib,
        "cpu_percent": (after.cpu - before.cpu) / took * 100,
        "verified": True,
    }


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--on", choices=("folder", "servers"), default="folder")
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    with place(args.on) as settings:
        print(json.dumps(run(args.dir, args.seconds, settings)))


if __name__ == "__main__":
    main()
