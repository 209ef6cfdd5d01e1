"""The seal in the counter: what it covers, what it refuses, what it lets pass."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol.seal import SENDERS_AT_MOST, Gate, Seal, Sealed, Ticker
from sidecar.protocol.types import DropReason

KEY = b"secret".ljust(20, b"\0")
SOURCE = IPv4Address("10.0.0.1")
ADVERT = Sealed(source=SOURCE, advbase=1, advskew=50, demotion=3)
NOW = 1_795_000_000.0
TICK = int(NOW * 256)

adverts = st.builds(
    Sealed,
    source=st.ip_addresses(),
    advbase=st.integers(0, 255),
    advskew=st.integers(0, 255),
    demotion=st.integers(0, 255),
)
ticks = st.integers(0, 2**40 - 1)


def test_the_layout_is_what_the_documentation_says() -> None:
    when = TICK.to_bytes(5, "big")
    message = b"carp-sidecar seal 1" + bytes((42,)) + SOURCE.packed + bytes((1, 50, 3)) + when
    expected = when + hmac.new(KEY, message, hashlib.sha256).digest()[:3]
    assert Seal(key=KEY, vhid=42).counter(TICK, ADVERT) == int.from_bytes(expected, "big")


@given(tick=ticks, advert=adverts, vhid=st.integers(1, 255))
def test_a_seal_that_was_made_opens_again(tick: int, advert: Sealed, vhid: int) -> None:
    seal = Seal(key=KEY, vhid=vhid)
    counter = seal.counter(tick, advert)
    assert 0 <= counter < 2**64
    assert seal.tick(counter, advert) == tick


@pytest.mark.parametrize(
    "forged",
    [
        replace(ADVERT, advskew=0),
        replace(ADVERT, advbase=0),
        replace(ADVERT, demotion=0),
        replace(ADVERT, source=IPv4Address("10.0.0.2")),
        replace(ADVERT, source=IPv6Address("fd00::1")),
    ],
)
def test_a_changed_advert_breaks_the_seal(forged: Sealed) -> None:
    seal = Seal(key=KEY, vhid=42)
    assert seal.tick(seal.counter(TICK, ADVERT), forged) is None


def test_another_key_group_or_time_breaks_the_seal() -> None:
    counter = Seal(key=KEY, vhid=42).counter(TICK, ADVERT)
    assert Seal(key=b"Secret".ljust(20, b"\0"), vhid=42).tick(counter, ADVERT) is None
    assert Seal(key=KEY, vhid=43).tick(counter, ADVERT) is None
    assert Seal(key=KEY, vhid=42).tick(counter + (1 << 24), ADVERT) is None
    assert Seal(key=KEY, vhid=42).tick(counter ^ 1, ADVERT) is None


@given(steps=st.lists(st.tuples(st.booleans(), st.floats(0, 4e9), st.floats(0, 1e6)), max_size=50))
def test_a_tick_is_never_repeated_and_never_lower(steps: list[tuple[bool, float, float]]) -> None:
    ticker = Ticker()
    seen, now = [], 0.0
    for anchored, wall, elapsed in steps:
        now += elapsed
        if anchored:
            ticker.anchor(wall=wall, now=now)
        seen.append(ticker.next(now))
    assert seen == sorted(set(seen))


def test_ticks_go_on_with_real_time_whatever_the_wall_clock_does() -> None:
    ticker = Ticker()
    ticker.anchor(wall=1000.0, now=5.0)
    assert [ticker.next(now) for now in (5.0, 5.0, 6.0)] == [256000, 256001, 256256]
    ticker.anchor(wall=10.0, now=7.0)  # set back: not followed
    assert ticker.next(8.0) == 256256 + 1 + 256
    ticker.anchor(wall=2000.0, now=9.0)
    assert ticker.next(9.0) == 512000


def test_each_advert_passes_once_and_in_order() -> None:
    gate = Gate(allowed_skew=60)
    judge = [gate.refuse(TICK + n, source=SOURCE, wall=NOW, now=0.0) for n in (0, 0, -1, 2, 1, 3)]
    replayed = DropReason.REPLAYED
    assert judge == [None, replayed, replayed, None, replayed, None]


def test_senders_are_told_apart() -> None:
    gate = Gate(allowed_skew=60)
    assert gate.refuse(TICK, source=SOURCE, wall=NOW, now=0.0) is None
    assert gate.refuse(TICK - 5, source=IPv4Address("10.0.0.2"), wall=NOW, now=0.0) is None


@pytest.mark.parametrize("stepped", [3600.0, -3600.0])
def test_a_step_of_the_receivers_clock_shuts_no_known_sender_out(stepped: float) -> None:
    gate = Gate(allowed_skew=60)
    assert gate.refuse(TICK, source=SOURCE, wall=NOW, now=100.0) is None
    assert gate.refuse(TICK + 256, source=SOURCE, wall=NOW + stepped, now=101.0) is None
    stranger = IPv4Address("10.0.0.2")
    assert gate.refuse(TICK + 256, source=stranger, wall=NOW + stepped, now=101.0) is DropReason.CLOCK_SKEW


def test_a_known_sender_that_was_set_right_is_let_in_by_the_wall_clock() -> None:
    gate = Gate(allowed_skew=60)
    assert gate.refuse(TICK, source=SOURCE, wall=NOW + 50, now=0.0) is None
    assert gate.refuse(TICK + 256 * 5000, source=SOURCE, wall=NOW + 5000, now=1.0) is None


@pytest.mark.parametrize(
    ("seconds", "refused"), [(-60.0, False), (60.0, False), (-60.1, True), (60.1, True), (1e6, True)]
)
def test_a_clock_further_away_than_allowed_is_refused(seconds: float, refused: bool) -> None:
    gate = Gate(allowed_skew=60)
    verdict = gate.refuse(int((NOW + seconds) * 256), source=SOURCE, wall=NOW, now=0.0)
    assert verdict == (DropReason.CLOCK_SKEW if refused else None)


def test_a_refused_advert_leaves_no_trace() -> None:
    gate = Gate(allowed_skew=60)
    assert gate.refuse(TICK + 10**6, source=SOURCE, wall=NOW, now=0.0) is DropReason.CLOCK_SKEW
    assert gate.refuse(None, source=SOURCE, wall=NOW, now=0.0) is DropReason.BROKEN_SEAL
    assert gate.refuse(TICK, source=SOURCE, wall=NOW, now=0.0) is None


def test_a_ticker_that_was_never_anchored_counts_from_the_boot() -> None:
    ticker = Ticker()
    assert [ticker.next(now) for now in (0.0, 0.0, 1.0)] == [0, 1, 256]


def test_the_memory_of_senders_is_bounded_and_forgets_the_quietest() -> None:
    gate = Gate(allowed_skew=60)
    for number in range(SENDERS_AT_MOST):
        gate.refuse(TICK, source=IPv4Address(number), wall=NOW, now=0.0)
    assert gate.refuse(TICK, source=IPv4Address(0), wall=NOW, now=0.0) is DropReason.REPLAYED  # as many as there are
    for number in range(SENDERS_AT_MOST + 1):
        gate.refuse(TICK, source=IPv4Address(number), wall=NOW, now=0.0)
        gate.refuse(TICK + number + 1, source=IPv4Address(0), wall=NOW, now=0.0)
    assert gate.refuse(TICK, source=IPv4Address(1), wall=NOW, now=0.0) is None  # forgotten
    assert gate.refuse(TICK, source=IPv4Address(0), wall=NOW, now=0.0) is DropReason.REPLAYED
