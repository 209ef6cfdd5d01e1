"""The counter: eight bytes in which no implementation looks for replays, and what we therefore may make of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.types import DropReason
from tests.fakes.captures import advert as captured_form
from tests.fakes.station import StartStation, Station, is_advert
from tests.fakes.wire import PEER, advert, ipv4

COUNTERS = st.integers(0, 2**64 - 1)
OPEN = pytest.mark.parametrize("replay", ["compat"])
"""The mode in which other implementations are heard."""


def heard(ours: Station, counter: int, **changes: int) -> bool:
    ours.now += 1.0
    return ours.hear(ipv4(advert(counter=counter, **changes))) is None


def sent(ours: Station, count: int) -> list[int]:
    """Return the counters of our next adverts, ``count`` at least."""
    ours.adverts()
    counters: list[int] = []
    while len(counters) < count:
        ours.pass_time(ours.runner.group.interval)
        counters += [header.counter for header in ours.adverts()]
    return counters


def test_the_counter_is_big_endian_on_the_wire() -> None:
    assert advert(counter=0x0102030405060708)[8:16] == bytes(range(1, 9))
    assert captured_form(counter=0x0102030405060708)[8:16] == bytes(range(1, 9))


# What others send ----------------------------------------------------------------------------------------------------


@OPEN
def test_openbsd_sends_one_random_counter_for_ever_and_is_heard_each_time(station: StartStation, replay: str) -> None:
    ours = station(replay=replay)
    assert all(heard(ours, 0x0123456789ABCDEF) for _ in range(5))
    assert ours.runner.status().adverts_received == 5


@OPEN
def test_a_lone_freebsd_netbsd_or_ucarp_draws_each_counter_at_random_and_is_heard(
    station: StartStation, replay: str
) -> None:
    ours, chance = station(replay=replay), random.Random(1)
    assert all(heard(ours, chance.getrandbits(64)) for _ in range(50))


@OPEN
def test_once_they_have_heard_a_peer_they_go_on_from_its_counter_and_are_heard(
    station: StartStation, replay: str
) -> None:
    """Two ucarp masters' counters leap-frog each other."""
    ours = station(replay=replay, advskew=100)
    ours.become_master()
    counter = sent(ours, 1)[0]
    for _ in range(5):
        counter = (counter + 1) % 2**64
        assert heard(ours, counter, advskew=200)


@OPEN
@given(counters=st.lists(COUNTERS, min_size=1, max_size=20))
def test_counters_repeat_jump_and_go_backwards_and_every_one_is_heard(replay: str, counters: list[int]) -> None:
    with Station(replay=replay) as ours:
        assert all(heard(ours, counter) for counter in counters)


def test_strict_hears_none_of_them(station: StartStation) -> None:
    """The price of replay protection: their counters are no seals."""
    ours = station(replay="strict")
    assert ours.hear(ipv4(advert(counter=0x0123456789ABCDEF))) is DropReason.BROKEN_SEAL


# What we send --------------------------------------------------------------------------------------------------------


def test_in_compat_our_counter_begins_at_random_and_each_advert_adds_1(station: StartStation) -> None:
    ours, other = station(replay="compat"), station(replay="compat")
    for each in (ours, other):
        each.become_master()
    counters = sent(ours, 5)
    assert [counter - counters[0] for counter in counters] == list(range(5))
    assert sent(other, 1)[0] != counters[0]


@pytest.mark.parametrize("last", [7, 2**32 - 1, 2**64 - 1])
def test_in_compat_our_counter_goes_on_from_the_one_heard(station: StartStation, last: int) -> None:
    """As FreeBSD, NetBSD and ucarp do; after all ones comes 0."""
    ours = station(replay="compat")
    heard(ours, last)
    ours.become_master()
    first, second = sent(ours, 2)
    assert (first - last) % 2**64 == 2  # one was sent with the takeover
    assert (second - last) % 2**64 == 3


@pytest.mark.parametrize("replay", ["strict"])
def test_sealed_counters_never_repeat_and_only_rise(station: StartStation, replay: str) -> None:
    """To all others they are counters like any other."""
    ours = station(replay=replay, advbase=0, advskew=1)
    ours.become_master()
    counters = sent(ours, 300)
    assert counters == sorted(set(counters))


@pytest.mark.parametrize("replay", ["compat", "strict"])
def test_openbsd_drops_its_own_counter_as_a_loop_and_never_hears_it_from_us(station: StartStation, replay: str) -> None:
    """It never changes its counter, so one that went on from it and came back would be deaf for good."""
    cookie = 0xFFFFFFFFFFFFFFFE
    ours = station(replay=replay)
    heard(ours, cookie, advskew=254)
    ours.pass_time(ours.runner.group.master_down)
    counters = [header.counter for header in ours.adverts()]
    for _ in range(20):
        heard(ours, cookie, advskew=254)
        counters += sent(ours, 1)
    assert len(counters) > 20
    assert cookie not in counters


# Loops and replays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replay", ["compat", "strict"])
def test_an_advert_of_our_own_that_comes_back_is_dropped_whatever_its_counter(
    station: StartStation, replay: str
) -> None:
    """OpenBSD knows it by the counter, which it never changes; we know it by the source address, as ucarp does."""
    ours = station(replay=replay)
    ours.become_master()
    ours.pass_time(1.0)
    echo = next(frame for frame in ours.frames() if is_advert(frame))[14:]
    assert ours.hear(echo) is DropReason.OWN_ECHO


@OPEN
def test_a_replay_of_another_implementations_advert_is_not_told_from_the_original(
    station: StartStation, replay: str
) -> None:
    """ "XXX Replay protection goes here": nobody's source has it, and nothing in the packet would carry it."""
    ours, packet = station(replay=replay), ipv4(advert())
    assert ours.hear(packet) is None
    ours.now += 3600.0
    assert ours.hear(packet) is None


def replayed(ours: Station, theirs: Station) -> DropReason | None:
    """Let ``theirs`` send an advert which ``ours`` hears twice."""
    theirs.become_master()
    theirs.pass_time(1.0)
    packet = next(frame for frame in theirs.frames() if is_advert(frame))[14:]
    assert ours.hear(packet) is None
    return ours.hear(packet)


@pytest.mark.parametrize("replay", ["strict"])
def test_a_replay_of_a_sealed_advert_is_dropped(station: StartStation, replay: str) -> None:
    assert replayed(station(replay=replay), station(replay=replay, source=str(PEER))) is DropReason.REPLAYED


def test_compat_does_not_look_at_seals(station: StartStation) -> None:
    assert replayed(station(replay="compat"), station(replay="strict", source=str(PEER))) is None
