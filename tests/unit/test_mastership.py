"""The clockwork of a mastership."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from sidecar.protocol.mastership import (
    ANNOUNCE_COUNT,
    ANNOUNCE_REFRESH,
    ANNOUNCE_SPACING,
    DEAF_FOR,
    DEAF_WITHIN,
    RIVALS_AT_MOST,
    Mastership,
)


def begun(*, interval: float = 1.0, lease: float = 2.0, patience: float = 3.0) -> Mastership:
    mastership = Mastership(10.0, interval=interval, lease=lease, patience=patience)
    mastership.advertise(10.0)
    return mastership


def test_no_advert_renews_before_the_lease_stands() -> None:
    mastership = begun()
    assert mastership.deadline == 11.0
    assert mastership.advertise(11.0) is False
    assert mastership.answered() is True
    assert mastership.advertise(11.5) is True
    assert mastership.answered() is False


def test_a_bind_may_have_to_wait() -> None:
    mastership = Mastership(10.0, interval=1.0, lease=2.0, patience=3.0, wait=0.25)
    mastership.advertise(10.0)
    assert (mastership.waits, mastership.deadline) == (True, 10.25)
    assert [mastership.bind_due(at) for at in (10.249, 10.25)] == [False, True]
    assert not mastership.unanswered(99.0)  # nothing was asked yet
    mastership.begin_lease(10.25)
    assert (mastership.waits, mastership.bind_due(99.0), mastership.unanswered(12.25)) == (False, False, True)
    assert Mastership(10.0, interval=0.1, lease=2.0, patience=3.0, wait=0.25).deadline == 10.0
    assert (mastership.waits_for(10.1), Mastership(1.0, interval=1.0, lease=2.0, patience=3.0).waits_for(0.5)) == (0, 0)
    hurried = Mastership(10.0, interval=0.1, lease=2.0, patience=3.0, wait=0.25)
    assert (hurried.waits_for(10.02), hurried.waits_for(11.0)) == (pytest.approx(0.23), 0.0)
    hurried.advertise(10.0)
    assert hurried.deadline == 10.1


def test_adverts_are_due_an_interval_after_the_last() -> None:
    mastership = begun()
    assert not mastership.advert_due(10.999)
    assert mastership.advert_due(11.0)


def test_a_late_advert_does_not_put_the_next_one_off() -> None:
    mastership = begun()
    mastership.advertise(11.4)
    assert not mastership.advert_due(11.99)
    assert mastership.advert_due(12.0)
    mastership.advertise(12.5)  # too late for that: they would follow each other closely
    assert not mastership.advert_due(13.4)
    assert mastership.advert_due(13.5)


def test_the_answer_is_awaited_from_the_first_request_on() -> None:
    mastership = begun()
    mastership.advertise(11.0)
    assert not mastership.unanswered(11.999)
    assert mastership.unanswered(12.0)
    mastership.answered()
    assert not mastership.unanswered(99.0)
    mastership.advertise(12.0)
    mastership.advertise(13.0)
    assert mastership.unanswered(14.0)


def test_fast_adverts_renew_every_eighth_of_the_lease() -> None:
    mastership = begun(interval=1 / 256, lease=1.0)
    mastership.answered()
    renewals = [tick for tick in range(1, 257) if mastership.advertise(10 + tick / 256)]
    assert renewals == list(range(32, 257, 32))


@pytest.mark.parametrize(("interval", "patience", "silent"), [(1.0, 3.0, 3.0), (1.9, 2.0, 2.85)])
def test_silence_counts_once_peers_no_longer_wait(interval: float, patience: float, silent: float) -> None:
    mastership = begun(interval=interval, patience=patience)
    assert mastership.silence(10 + silent - 0.001) is None
    assert mastership.silence(10 + silent) == pytest.approx(silent)


RIVAL = ip_address("10.0.0.9")


def test_a_rival_is_answered_once_an_interval() -> None:
    mastership = begun()
    assert [mastership.may_reply(RIVAL, at) for at in (10.0, 10.9, 11.0, 11.1)] == [True, False, True, False]


def test_announcements_are_counted_and_spaced() -> None:
    mastership = begun(interval=100.0, lease=200.0)
    mastership.answered()
    now, made = 10.0, 0
    mastership.announce(now)
    while mastership.deadline < 50:
        now = mastership.deadline
        assert mastership.announcement_due(now)
        mastership.announce(now)
        made += 1
    assert made == ANNOUNCE_COUNT - 1
    assert now == pytest.approx(10 + ANNOUNCE_SPACING * (ANNOUNCE_COUNT - 1))


def test_after_a_rival_one_announcement_follows() -> None:
    mastership = begun(interval=100.0, lease=200.0)
    mastership.answered()
    for at in range(10, 10 + ANNOUNCE_COUNT):
        mastership.announce(float(at))
    mastership.announce_out_of_turn(50.0)
    assert mastership.deadline == pytest.approx(50 + ANNOUNCE_SPACING)
    mastership.announce(mastership.deadline)
    assert mastership.deadline == 110.0


def test_announcements_go_on_at_long_intervals() -> None:
    mastership = begun(interval=100.0, lease=200.0)
    mastership.answered()
    for _ in range(ANNOUNCE_COUNT):
        mastership.announce(20.0)
    assert mastership.announcement_due(20.0 + ANNOUNCE_REFRESH)
    assert not mastership.announcement_due(19.9 + ANNOUNCE_REFRESH)


def test_a_rival_that_comes_back_gets_every_advert_by_unicast_for_a_while() -> None:
    mastership = begun()
    assert mastership.may_reply(RIVAL, 20.0)
    assert mastership.deaf(20.0) == ()
    assert mastership.may_reply(RIVAL, 20.0 + DEAF_WITHIN - 1)
    heard = 20.0 + DEAF_WITHIN - 1
    assert mastership.deaf(heard) == mastership.deaf(heard + DEAF_FOR - 1) == (RIVAL,)
    assert mastership.deaf(heard + DEAF_FOR) == ()


def test_a_rival_that_comes_back_late_is_a_new_one() -> None:
    mastership = begun()
    assert mastership.may_reply(RIVAL, 20.0)
    assert mastership.may_reply(RIVAL, 20.0 + DEAF_WITHIN)
    assert mastership.deaf(21.0 + DEAF_WITHIN) == ()


def test_the_memory_for_rivals_is_limited() -> None:
    mastership = begun()
    for round_ in range(2):
        for number in range(2 * RIVALS_AT_MOST):
            assert mastership.may_reply(ip_address(number), 20.0 + 30 * round_ + number)
    assert len(mastership.deaf(70.0)) == RIVALS_AT_MOST


def test_a_bind_that_nobody_answers_is_due_before_a_later_advert() -> None:
    assert begun(interval=5.0).deadline == 12.0


def test_a_lease_is_confirmed_late_where_more_than_an_eighth_of_it_has_passed() -> None:
    mastership = begun()
    mastership.advertise(10.25)
    assert not mastership.confirmed_late
    mastership.advertise(10.26)
    assert mastership.confirmed_late
