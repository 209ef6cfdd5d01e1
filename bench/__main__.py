"""``python -m bench``: measure, print, and write the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import packets
from bench.load import Load, Result, measure
from bench.machine import machine
from bench.page import Report, page, publish
from sidecar.demo.lan import LanError

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "engine.md"
_LOADS = tuple(Load(groups=groups, interfaces=interfaces) for interfaces in (1, 4) for groups in (1, 64, 255))
_RATES = tuple(Load(groups=1, advbase=0, advskew=advskew) for advskew in (128, 64, 32, 16, 8, 4))


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure what the engine costs.")
    parser.add_argument("--adverts", type=int, default=500, help="adverts in a run (default %(default)s)")
    parser.add_argument("--runs", type=int, default=41, help="runs whose median counts (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="how long each load is looked at (default %(default)s)"
    )
    parser.add_argument("--only-packets", action="store_true", help="no network namespaces; the page stays as it is")
    arguments = parser.parse_args()
    before = machine()
    sizes = {"adverts": arguments.adverts, "runs": arguments.runs}
    received, sent = packets.received(**sizes), packets.sent(**sizes)
    try:
        loads, rates = (
            ((), ()) if arguments.only_packets else (_all(each, arguments.seconds) for each in (_LOADS, _RATES))
        )
    except (LanError, TimeoutError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    report = Report(before=before, after=machine(), received=received, sent=sent, loads=loads, rates=rates)
    text = page(report)
    print(text)
    if not arguments.only_packets:
        publish(_PAGE, text, report)
    return 0


def _all(loads: tuple[Load, ...], seconds: float) -> tuple[Result, ...]:
    results = []
    for load in loads:
        print(f"measuring {load}", file=sys.stderr, flush=True)
        results.append(measure(load, seconds=seconds))
    return tuple(results)


if __name__ == "__main__":
    raise SystemExit(main())
