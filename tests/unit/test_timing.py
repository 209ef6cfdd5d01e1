import pytest

from sidecar.protocol import timing
from sidecar.protocol.timing import TICK, interval, master_down


@pytest.mark.parametrize(
    ("advbase", "advskew", "seconds"),
    [
        (0, 0, 1 / 256),
        (0, 1, 1 / 256),
        (0, 4, 4 / 256),
        (1, 0, 1.0),
        (1, 128, 1.5),
        (254, 254, 254 + 254 / 256),
        (255, 255, 255 + 255 / 256),
    ],
)
def test_interval(advbase: int, advskew: int, seconds: float) -> None:
    assert interval(advbase=advbase, advskew=advskew) == seconds


@pytest.mark.parametrize(
    ("advbase", "advskew", "dead_ratio", "seconds"),
    [
        (1, 0, 3, 3.0),
        (1, 100, 3, 3 + 100 / 256),  # the skew counts once: the lower one stands up first
        (2, 64, 4, 8.25),
        (0, 4, 3, 12 / 256),  # without a base the skew is the interval, and counts each time
        (0, 0, 3, 3 / 256),
        (0, 1, 1, 1 / 256),
    ],
)
def test_master_down(advbase: int, advskew: int, dead_ratio: int, seconds: float) -> None:
    assert master_down(advbase=advbase, advskew=advskew, dead_ratio=dead_ratio) == seconds


def test_a_tick_is_the_unit_of_advskew() -> None:
    assert interval(advbase=1, advskew=1) - interval(advbase=1, advskew=0) == TICK == 0.00390625


@pytest.mark.parametrize(
    ("advbase", "advskew", "dead_ratio", "seconds"),
    [(1, 0, 3, 3.0), (1, 200, 3, 3.0), (0, 4, 3, 12 / 256), (0, 0, 3, 3 / 256), (5, 9, 2, 10.0)],
)
def test_the_earliest_peer_has_no_skew_of_its_own(advbase: int, advskew: int, dead_ratio: int, seconds: float) -> None:
    assert timing.patience(advbase=advbase, advskew=advskew, dead_ratio=dead_ratio) == seconds


def test_a_lease_stands_for_a_little_less_than_the_earliest_peer_waits() -> None:
    assert timing.standing(advbase=1, advskew=0, dead_ratio=3) == 3 * 63 / 64 - 0.001
    assert timing.standing(advbase=1, advskew=0, dead_ratio=1) == 1.5 * 63 / 64 - 0.001
    assert timing.standing(advbase=1, advskew=128, dead_ratio=2) == 2.25 * 63 / 64 - 0.001


@pytest.mark.parametrize(
    ("advbase", "advskew", "seconds"), [(1, 0, 1.0625), (1, 128, 1.5625), (0, 4, 0.5625), (0, 192, 0.8125), (5, 0, 2.0)]
)
def test_a_successor_is_waited_for_an_interval_and_no_longer_than_two_seconds(
    advbase: int, advskew: int, seconds: float
) -> None:
    assert timing.succession(advbase=advbase, advskew=advskew) == seconds
