"""The long run, run for a moment; and that it shows the smallest story where something is wrong."""

from __future__ import annotations

import pytest

from tests.fakes.faults import Crash, Link
from tests.soak.__main__ import play_with_interruptions
from tests.soak.cases import KINDS, Case, make
from tests.soak.ledger import Ledger
from tests.soak.shrink import shrink


def seeds(kind: str, count: int) -> list[int]:
    """Return the first seeds whose cases are of this kind."""
    found: list[int] = []
    seed = 0
    while len(found) < count:
        if make(seed).kind == kind:
            found.append(seed)
        seed += 1
    return found


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if kind.calm == 1.0])
def test_a_few_stories_of_each_kind(kind: str) -> None:
    ledger = Ledger()
    for seed in seeds(kind, 2):
        assert play_with_interruptions(seed, ledger) is None
    told = "\n".join(ledger.lines())
    assert f"8 LANs ({kind} 8)" in told
    assert ledger.seconds > 0


def test_a_seed_is_a_case() -> None:
    assert make(7) == make(7)
    assert make(7) != make(8)


def test_of_a_failing_case_only_what_matters_is_left() -> None:
    def fails(case: Case) -> bool:
        faults = [type(fault) for _, fault in case.story]
        return Crash in faults and Link in faults[faults.index(Crash) :]

    long = next(case for case in map(make, range(1000)) if fails(case) and len(case.story) > 20)
    small = shrink(long, fails)
    assert [type(fault) for _, fault in small.story] == [Crash, Link]
    assert len(small.configs) == 2
    assert all(round(gap, 1) == gap for gap, _ in small.story)
