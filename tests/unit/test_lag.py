"""The histogram of the loop's lag."""

from __future__ import annotations

import pytest

from sidecar.engine.lag import BOUNDS, Lag


def test_nothing_was_late_yet() -> None:
    status = Lag().status()
    assert status.buckets == tuple((bound, 0) for bound in BOUNDS)
    assert (status.count, status.sum, status.maximum) == (0, 0.0, 0.0)


def test_buckets_are_cumulative_and_their_bounds_belong_to_them() -> None:
    lag = Lag()
    for seconds in (0.0, 0.0001, 0.00011, 0.001, 7.0):
        lag.note(seconds)
    status = lag.status()
    counts = dict(status.buckets)
    assert [counts[bound] for bound in (0.0001, 0.0002, 0.0005, 0.001, 0.002, 5.0)] == [2, 3, 3, 4, 4, 4]
    assert (status.count, status.maximum) == (5, 7.0)
    assert status.sum == pytest.approx(7.00121)


def test_the_bounds_ascend_and_tell_an_interval_of_one_256th_from_half_of_it() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert any(1 / 512 <= bound < 1 / 256 for bound in BOUNDS)
