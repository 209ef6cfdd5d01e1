"""Play random stories until the time is over; exit with 1 and the smallest story that was found where one goes wrong.

``SOAK_MINUTES`` (3) is how long. ``SOAK_SEED`` (of the clock) is the first story's seed, the next has the next;
``SOAK_STORIES`` ends after so many.
"""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from pprint import pformat

from tests.fakes.verdict import check_story
from tests.soak.cases import Case, interruption, make, unit_of
from tests.soak.ledger import Ledger
from tests.soak.shrink import shrink

INTERRUPTED = 3
"""How many times each story is played again, cut at one of its steps."""


def main() -> int:
    """Run; return the exit code."""
    minutes = float(os.environ.get("SOAK_MINUTES", "3"))
    first = int(os.environ.get("SOAK_SEED") or time.time_ns() % 2**40)
    stories = int(os.environ.get("SOAK_STORIES", "0"))
    ends = time.monotonic() + 60 * minutes
    ledger = Ledger()
    print(f"SOAK_SEED={first}, {minutes:g} minutes", flush=True)
    try:
        for seed in range(first, first + (stories or 2**62)):
            failed = play_with_interruptions(seed, ledger)
            if failed is not None:
                _report(failed)
                return 1
            if time.monotonic() > ends:
                break
    except KeyboardInterrupt:
        print("interrupted; until then:")
    print("\n".join(ledger.lines()))
    return 0


def play_with_interruptions(seed: int, ledger: Ledger) -> Case | None:
    """Play the case of ``seed``, and again with something else at some steps; return what failed, or None."""
    case = make(seed)
    steps = play(case, ledger)
    if steps is None:
        return case
    chance = random.Random(seed)
    for _ in range(INTERRUPTED):
        step = chance.randint(1, steps)
        cut = replace(case, interruptions={step: interruption(chance, unit=unit_of(case))})
        if play(cut, ledger) is None:
            return cut
    return None


def play(case: Case, ledger: Ledger) -> int | None:
    """Return how many steps the story took, or None where something was wrong."""
    lan = case.lan()
    page = ledger.open(lan, case.kind)
    try:
        steps = check_story(lan, case.story)
    except AssertionError:
        return None
    page.close()
    return steps


def _fault(case: Case) -> str | None:
    try:
        check_story(case.lan(), case.story)
    except AssertionError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{Path(frame.filename).name}:{frame.lineno}: {frame.line} {error}"
    return None


def _report(case: Case) -> None:
    smallest = shrink(case, lambda each: _fault(each) is not None)
    print(f"\nBROKEN by SOAK_SEED={case.seed} SOAK_STORIES=1: {_fault(case)}\n")
    print(f"The smallest story: {_fault(smallest)}\n{pformat(smallest, width=120)}")


if __name__ == "__main__":
    sys.exit(main())
