"""``python -m benchmarks``, what ``make bench`` and ``make bench-kafka`` call.

Runs the chosen cases, prints a table and writes the result file.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.cases import CASES, EMBEDDED, SERVERS
from benchmarks.harness import RESULTS, Case, Figures, Line, judge, measure
from benchmarks.measure import NotVerifiedError


def arguments() -> argparse.Namespace:
    """The command line; ``--quick`` is for seeing that everything works, its figures are not to be quoted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Millrace beside its twins and peers.")
    parser.add_argument("--only", help=f"comma list of {', '.join(CASES)}; default: the embedded ones that are not long")
    parser.add_argument("--servers", action="store_true", help="the cases on Kafka and PostgreSQL, which `make servers` starts")
    parser.add_argument("--runs", type=int, help="rounds of each case (5; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="small work, one round")
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", help="result file")
    args = parser.parse_args()
    args.only = args.only or ",".join(case.name for case in (SERVERS if args.servers else EMBEDDED) if not case.long)
    unknown = [name for name in args.only.split(",") if name not in CASES]
    if unknown:
        parser.error(f"--only {unknown[0]}: no such case, allowed are {', '.join(CASES)}")
    args.runs = args.runs or (1 if args.quick else 5)
    return args


def main() -> int:
    """Answer 0 when every run verified and every promise was kept, 1 when one was not."""
    args = arguments()
    chosen: list[Case] = [CASES[name] for name in args.only.split(",")]
    rounds: dict[str, list[dict[str, Figures]]] = {}
    lines: list[Line] = []
    for case in chosen:
        try:
            rounds[case.name] = measure(case, runs=args.runs, quick=args.quick, say=lambda text: print(text, flush=True))
        except NotVerifiedError as error:
            print(f"{case.name}: {error}", file=sys.stderr)
            return 1
        lines += judge(case, rounds[case.name])
        report.write(args.json, lines, rounds)
    print(report.table(chosen, lines, rounds))
    return 1 if any(line.met is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
