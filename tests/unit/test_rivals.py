"""Rivals that go on."""

from __future__ import annotations

from ipaddress import ip_address

from sidecar.engine.rivals import AT_MOST, BACK_WITHIN, REPORT_EVERY, Rivals

FIRST, SECOND = ip_address("10.0.0.8"), ip_address("10.0.0.9")


def test_a_rival_that_yields_is_none() -> None:
    rivals = Rivals()
    assert not rivals.heard(FIRST, interval=1.0, now=10.0)
    assert not rivals.heard(FIRST, interval=1.0, now=10.1)  # on its way when it was answered
    assert not rivals.heard(FIRST, interval=1.0, now=10.1 + BACK_WITHIN)
    assert rivals.standing(since=0.0) == ()


def test_one_that_goes_on_is_reported_once_in_a_while() -> None:
    rivals = Rivals()
    told = [rivals.heard(FIRST, interval=1.0, now=10.0 + second) for second in range(5)]
    assert told == [False, True, False, False, False]
    assert rivals.standing(since=12.0) == (FIRST,)
    assert rivals.standing(since=15.0) == ()
    later = [rivals.heard(FIRST, interval=1.0, now=float(now)) for now in range(15, int(12 + REPORT_EVERY))]
    assert later.count(True) == 1


def test_made_up_sources_do_not_fill_the_memory() -> None:
    rivals = Rivals()
    for number in range(3 * AT_MOST):
        for now in (1.0, 3.0):
            rivals.heard(ip_address(number), interval=1.0, now=now)
    assert len(rivals.standing(since=0.0)) == AT_MOST
    assert not rivals.heard(SECOND, interval=1.0, now=4.0)
