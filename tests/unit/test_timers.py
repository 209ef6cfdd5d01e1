"""One heap of deadlines, compared with looking at every owner."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.timers import Timers

OWNERS = st.sampled_from("abcd")
TIMES = st.integers(0, 6).map(float)
ARM = st.tuples(st.just("arm"), OWNERS, st.none() | st.just(math.inf) | TIMES)
STEP = ARM | st.tuples(st.just("next")) | st.tuples(st.just("due"), TIMES)


class Scan:
    """The same by looking at all of them."""

    def __init__(self) -> None:
        self.armed: dict[str, float] = {}

    def arm(self, owner: str, at: float | None) -> None:
        self.armed[owner] = math.inf if at is None else at

    def next(self) -> float | None:
        earliest = min(self.armed.values(), default=math.inf)
        return None if earliest == math.inf else earliest

    def due(self, now: float) -> list[str]:
        owners = sorted((at, owner) for owner, at in self.armed.items() if at <= now)
        for _, owner in owners:
            del self.armed[owner]
        return [owner for _, owner in owners]


@given(st.lists(STEP, max_size=60))
def test_it_says_what_a_scan_says(steps: list[tuple[object, ...]]) -> None:
    timers, scan = Timers(), Scan()
    for name, *arguments in steps:
        got, expected = (getattr(each, str(name))(*arguments) for each in (timers, scan))
        assert got == expected
    assert (timers.next(), timers.due(9.0)) == (scan.next(), scan.due(9.0))
    assert timers.next() is None


def test_the_earliest_comes_first_and_each_is_due_once() -> None:
    timers = Timers()
    for owner, at in (("late", 3.0), ("early", 1.0), ("later", 4.0)):
        timers.arm(owner, at)
    assert timers.next() == 1.0
    assert timers.due(3.0) == ["early", "late"]
    assert timers.due(3.0) == []
    assert timers.next() == 4.0


def test_a_deadline_that_moved_away_wakes_nobody() -> None:
    timers = Timers()
    timers.arm("web", 1.0)
    timers.arm("web", 5.0)
    assert timers.next() == 5.0
    assert timers.due(4.9) == []
    timers.arm("web", None)
    assert timers.next() is None


def test_one_that_is_armed_again_for_the_same_moment_is_due_again() -> None:
    timers = Timers()
    for at in (1.0, 2.0, 1.0):
        timers.arm("web", at)
    assert timers.due(1.0) == ["web"]
    timers.arm("web", 1.0)
    assert timers.due(1.0) == ["web"]
    assert timers.due(2.0) == []


def test_the_heap_does_not_grow_with_what_is_armed_anew() -> None:
    timers = Timers()
    for number in range(10_000):
        timers.arm("web", 1e6 + number)  # a backup whose master is heard very often
        timers.arm("db", 2e6 - number)
    assert len(timers._heap) < 100
    assert timers.next() == 1e6 + 9_999
