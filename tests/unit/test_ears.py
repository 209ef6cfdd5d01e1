"""What is heard, family by family."""

from __future__ import annotations

import math
from ipaddress import ip_address

import pytest

from sidecar.protocol.ears import Ears

V4, V6 = ip_address("10.0.0.1"), ip_address("fe80::1")
PEER4, PEER6 = ip_address("10.0.0.9"), ip_address("fe80::9")


def test_each_family_has_an_ear_and_no_other() -> None:
    ears = Ears(V4, None)
    assert ears.of(PEER4) is ears.main
    assert ears.of(PEER6) is None
    both = Ears(V6, V4)
    assert both.of(PEER6) is both.main
    assert (ear := both.of(PEER4)) is not None
    assert ear.source == V4


def test_the_master_is_named_by_the_main_family_if_it_is_known_there() -> None:
    ears = Ears(V4, V6)
    second = ears.of(PEER6)
    assert second is not None
    assert (ears.master, ears.followed_at) == (None, -math.inf)
    second.master, second.heard_at = PEER6, 2.0
    assert (ears.master, ears.followed_at) == (PEER6, 2.0)
    ears.main.master, ears.main.heard_at = PEER4, 1.0
    assert (ears.master, ears.followed_at) == (PEER4, 2.0)
    ears.forget()
    assert (ears.master, ears.followed_at) == (None, -math.inf)


def test_the_first_timer_counts_and_is_the_one_that_was_silent() -> None:
    ears = Ears(V4, V6)
    second = ears.of(PEER6)
    assert second is not None
    ears.arm(5.0)
    second.down_at = 4.0
    assert ears.down_at == 4.0
    assert ears.silent(4.5) is second
    ears.postpone(due=4.5, until=6.0)
    assert (ears.main.down_at, second.down_at) == (5.0, 6.0)
    ears.arm(math.inf)
    assert ears.down_at == math.inf


@pytest.mark.parametrize("interval", [1.0, 0.25])
def test_an_ear_wakes_for_one_that_is_heard_about_an_interval_apart(interval: float) -> None:
    for apart, wakes in ((0.499, False), (0.5, True), (1.0, True), (1.5, True), (1.501, False)):
        ears = Ears(V4, V6)
        assert not ears.main.wakes(PEER4, interval=interval, now=8.0)
        assert ears.main.wakes(PEER4, interval=interval, now=8.0 + apart * interval) is wakes


def test_an_ear_does_not_wake_for_two_that_are_heard_once_each() -> None:
    ears = Ears(V4, V6)
    assert not ears.main.wakes(PEER4, interval=1.0, now=8.0)
    assert not ears.main.wakes(V4, interval=1.0, now=9.0)
    assert not ears.main.wakes(PEER4, interval=1.0, now=10.0)
    assert ears.main.wakes(PEER4, interval=1.0, now=11.0)


def test_a_timer_that_ends_just_now_is_postponed() -> None:
    ears = Ears(V4, None)
    ears.arm(5.0)
    ears.postpone(due=5.0, until=6.0)
    assert ears.down_at == 6.0
