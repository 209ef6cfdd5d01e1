"""``python -m bench.failover``: find the fastest settings, measure, write the page."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from bench.failover.faults import cost, measure
from bench.failover.page import page
from bench.failover.picture import picture
from bench.failover.setups import Fastest, setups
from bench.failover.soak import candidates, search
from bench.failover.stage import StageError
from bench.failover.store import COST, Shelf, Unit, missing, mixed, units
from bench.failover.together import Together
from sidecar.demo.lan import LanError

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "failover.md"


def main() -> int:
    """Run; return the exit code."""
    arguments = _arguments()
    shelf = Shelf(arguments.page.with_suffix(".json"))
    failed = 0
    if arguments.command == "soak":
        wanted = [setup for setup in candidates() if arguments.cells in f"{setup.name}: {setup.speed.name}"]

        def tell(verdict: str, known: Fastest) -> None:
            print(verdict, file=sys.stderr, flush=True)
            shelf.remember(known)

        search(arguments.seconds, wanted, tell=tell)
    elif arguments.command == "run":
        failed = _run(shelf, arguments)
    if shelf.book.outcomes:
        text = page(shelf.book)
        arguments.page.write_text(text)
        arguments.page.with_suffix(".svg").write_text(picture(shelf.book))
        print(text)
    return 1 if failed else 0


def _run(shelf: Shelf, arguments: argparse.Namespace) -> int:
    """Measure what is missing; return how many runs failed."""
    fastest = shelf.book.fastest or Fastest(seconds=0.0, load=0.0)
    if shelf.book.fastest is None:
        print("no soak was made: only the default timing is measured", file=sys.stderr)
    wanted = units(setups(fastest), arguments.cells)
    todo = missing(shelf.book, wanted, runs=arguments.runs, shuffle=mixed)
    give_up = time.monotonic() + arguments.minutes * 60
    failures: list[str] = []

    def one(number: int, unit: Unit, together: Together) -> None:
        try:
            if unit.play == COST:
                shelf.add(costs=[cost(unit.setup, together)])
            else:
                shelf.add(outcomes=measure(unit.setup, unit.play, together))
        except (LanError, StageError) as error:
            failures.append(f"{unit.name}: {error}")
            print(failures[-1], file=sys.stderr, flush=True)
        finally:
            together.over()
        print(f"{number}/{len(todo)} {unit.name}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(arguments.at_once) as pool:
        for first in range(0, len(todo), arguments.at_once):
            if time.monotonic() > give_up:
                break
            some = todo[first : first + arguments.at_once]
            together = Together(len(some))
            try:
                list(pool.map(one, range(first + 1, first + 1 + len(some)), some, repeat(together)))
            except KeyboardInterrupt:
                break
    print(f"{len(failures)} runs failed", file=sys.stderr)
    return len(failures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.failover", description=__doc__)
    parser.add_argument("--page", type=Path, default=_PAGE, help="the page; its figures are in the .json beside it")
    commands = parser.add_subparsers(dest="command", required=True)
    soak = commands.add_parser("soak", help="find the fastest setting of each product that holds a stable master")
    soak.add_argument("--seconds", type=float, default=600.0, help="how long it has to hold (default %(default).0f)")
    soak.add_argument("--cells", default="", help="only candidates whose name contains this")
    run = commands.add_parser("run", help="measure what is missing, and write the page")
    run.add_argument(
        "--runs", type=int, default=10, help="of each cell, with those that there are (default %(default)s)"
    )
    run.add_argument("--cells", default="*", help='which setups and faults, such as "keepalived*: crash"')
    run.add_argument("--minutes", type=float, default=60.0, help="begin nothing after so long (default %(default).0f)")
    run.add_argument(
        "--at-once", type=int, default=2 * (os.cpu_count() or 1), help="LANs side by side (default %(default)s)"
    )
    commands.add_parser("page", help="only write the page")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
