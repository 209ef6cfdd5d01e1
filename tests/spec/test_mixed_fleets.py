"""Our nodes among those of others (tests/fakes/foreign.py), on a simulated LAN: does it end with one master?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.protocol import events
from sidecar.protocol.demotion import HARD
from sidecar.protocol.types import GroupConfig, Role
from tests.fakes.foreign import KINDS, Foreign, FreeBSD, NetBSD, OpenBSD, Ucarp, timeval
from tests.fakes.groups import config
from tests.fakes.mixed import MixedLan

LOW, HIGH = "10.0.9.1", "10.0.1.9"
"""As ucarp orders them: the last octet first."""
OURS, THEIRS = 0, 1
SEEDS = range(2)

each_kind = pytest.mark.parametrize("kind", KINDS)
each_bsd = pytest.mark.parametrize("kind", [OpenBSD, FreeBSD, NetBSD])


def masters(lan: MixedLan) -> list[int]:
    return [node.number for node in lan.nodes if node.role is Role.MASTER]


def settle(lan: MixedLan, *, within: float = 30.0) -> int:
    """Let the LAN run; return who is master, at the end and for a long time after it."""
    lan.run(within)
    (master,) = masters(lan)
    before = len(lan.history)
    lan.run(30.0)
    assert masters(lan) == [master]
    assert lan.history[before:] == []
    return master


def pair(
    kind: type[Foreign], ours: GroupConfig, theirs: GroupConfig, *, seed: int = 0, demotions: Sequence[int] = ()
) -> MixedLan:
    return MixedLan([ours, theirs], {THEIRS: kind}, seed=seed, demotions=demotions)


def started(lan: MixedLan, first: int | None) -> MixedLan:
    """Start all at once, or one of two long before the other, which then joins a master."""
    if first is not None:
        lan.nodes[first].start()
        lan.run(10.0)
        assert masters(lan) == [first]
        lan.nodes[1 - first].start()
    else:
        lan.start()
    return lan


# One of each ---------------------------------------------------------------------------------------------------------

ORDERS = pytest.mark.parametrize("first", [None, OURS, THEIRS], ids=["together", "ours-first", "theirs-first"])
SKEWS = [(0, 1), (0, 100), (239, 254)]


@each_kind
@ORDERS
@pytest.mark.parametrize("preempt", list(product((False, True), repeat=2)), ids=str)
@pytest.mark.parametrize("skews", [*SKEWS, *((b, a) for a, b in SKEWS)], ids=str)
def test_two_of_distinct_skews_settle_on_one_master(
    kind: type[Foreign], first: int | None, preempt: tuple[bool, bool], skews: tuple[int, int]
) -> None:
    """On the better one where it preempts; else on whoever was there first."""
    better = OURS if skews[OURS] < skews[THEIRS] else THEIRS
    for seed, addresses in product(SEEDS, ((LOW, HIGH), (HIGH, LOW))):
        ours, theirs = (
            config(source=IPv4Address(source), advskew=skew, preempt=preempts)
            for source, skew, preempts in zip(addresses, skews, preempt, strict=True)
        )
        master = settle(started(pair(kind, ours, theirs, seed=seed), first))
        if first is not None:
            assert master == (better if preempt[better] else first)


@each_kind
@ORDERS
@pytest.mark.parametrize("preempt", list(product((False, True), repeat=2)), ids=str)
@pytest.mark.parametrize("skew", [0, 240])
@pytest.mark.parametrize("addresses", [(LOW, HIGH), (HIGH, LOW)], ids=["ours-lower", "ours-higher"])
def test_two_of_equal_skews_settle_on_one_master_too(
    kind: type[Foreign], first: int | None, preempt: tuple[bool, bool], skew: int, addresses: tuple[str, str]
) -> None:
    """A BSD always yields; ours and ucarp by the address. Where both yield, one of the next rounds decides."""
    for seed in SEEDS:
        ours, theirs = (
            config(source=IPv4Address(source), advskew=skew, preempt=preempts)
            for source, preempts in zip(addresses, preempt, strict=True)
        )
        master = settle(started(pair(kind, ours, theirs, seed=seed), first), within=60.0)
        if first is not None:
            assert master == first


@each_kind
@pytest.mark.parametrize("advbases", [(1, 5), (5, 1), (2, 3)], ids=str)
@ORDERS
def test_two_of_distinct_advbases_settle_on_one_master(
    kind: type[Foreign], advbases: tuple[int, int], first: int | None
) -> None:
    """The faster one, preempt or not, where the slower one's interval is longer than its timer."""
    ours, theirs = (
        config(source=IPv4Address(source), advbase=base, advskew=10)
        for source, base in zip((LOW, HIGH), advbases, strict=True)
    )
    lan = pair(kind, ours, theirs)
    lan.nodes[OURS if first is None else first].start()
    lan.run(20.0)
    lan.nodes[THEIRS if first is None else 1 - first].start()
    master = settle(lan, within=60.0)
    if max(advbases) > 3 * min(advbases):
        assert master == advbases.index(min(advbases))


@pytest.mark.parametrize("kind", [OpenBSD, NetBSD])
@ORDERS
@pytest.mark.parametrize("skews", [(16, 32), (32, 16)], ids=str)
def test_at_advbase_0_two_settle(kind: type[Foreign], first: int | None, skews: tuple[int, int]) -> None:
    """FreeBSD has no advbase 0."""
    ours, theirs = (
        config(source=IPv4Address(source), advbase=0, advskew=skew)
        for source, skew in zip((LOW, HIGH), skews, strict=True)
    )
    settle(started(pair(kind, ours, theirs), first))


def test_at_advbase_0_ucarp_flaps_whoever_its_master_is() -> None:
    """It reads its capture up to a second late, and has taken over by then; seen with two ucarps too."""
    ours, theirs = (
        config(source=IPv4Address(source), advbase=0, advskew=skew) for source, skew in ((LOW, 64), (HIGH, 128))
    )
    lan = started(pair(Ucarp, ours, theirs), OURS)
    lan.run(30.0)
    assert len([change for change in lan.history if change.node == THEIRS]) > 20


# Failover ------------------------------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("preempt", [False, True])
@pytest.mark.parametrize("skews", [(0, 100), (100, 0)], ids=str)
def test_where_the_master_dies_the_other_takes_over_after_its_own_timer(
    kind: type[Foreign], preempt: bool, skews: tuple[int, int]
) -> None:
    ours, theirs = (
        config(source=IPv4Address(source), advskew=skew, preempt=preempt)
        for source, skew in zip((LOW, HIGH), skews, strict=True)
    )
    lan = started(pair(kind, ours, theirs), OURS if skews[OURS] < skews[THEIRS] else THEIRS)
    master = settle(lan)
    lan.nodes[master].crash()
    died = lan.now
    assert settle(lan) == 1 - master
    (change,) = [change for change in lan.history if change.at > died and change.after is Role.MASTER]
    patience = 3 + skews[1 - master] / 256
    if change.node == THEIRS and kind is OpenBSD:
        patience = 3 * (1 + skews[THEIRS] / 256)
    late = 2.5 if change.node == THEIRS and kind is Ucarp else 0.01  # its poll, and its capture's buffer
    assert patience - 1 - max(skews) / 256 <= change.at - died <= patience + late


@each_kind
def test_our_goodbye_is_obeyed_at_once(kind: type[Foreign]) -> None:
    """All take a goodbye for a master too slow for their timer."""
    lan = started(pair(kind, config(source=IPv4Address(LOW)), config(source=IPv4Address(HIGH), advskew=100)), OURS)
    settle(lan)
    lan.run(0.5)  # between two adverts, since the LAN may change the order of what is sent together
    lan.nodes[OURS].deliver(events.Stop())
    stopped = lan.now
    lan.run(5.0)
    (change,) = [change for change in lan.history if change.at > stopped and change.node == THEIRS]
    assert change.after is Role.MASTER
    assert change.at - stopped <= (1.01 if kind is Ucarp else 0.02)


@each_kind
def test_their_goodbye_is_obeyed_at_once_where_they_say_one(kind: type[Foreign]) -> None:
    """OpenBSD and NetBSD do; FreeBSD and ucarp leave us to our timer."""
    lan = started(pair(kind, config(source=IPv4Address(LOW), advskew=100), config(source=IPv4Address(HIGH))), THEIRS)
    settle(lan)
    lan.run(0.5)
    lan.nodes[THEIRS].deliver(events.Stop())
    stopped = lan.now
    lan.run(5.0)
    (change,) = [change for change in lan.history if change.at > stopped and change.node == OURS]
    assert change.after is Role.MASTER
    if kind.says_goodbye:
        assert change.at - stopped <= 100 / 4096 + 0.02
    else:
        assert change.at - stopped > 2.0


# Demotion ------------------------------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("preempt", [False, True])
def test_our_demotion_is_seen_by_openbsd_in_byte_4_and_by_the_others_in_the_skew(
    kind: type[Foreign], preempt: bool
) -> None:
    """OpenBSD takes over regardless of preempt, the others with it."""
    theirs = config(source=IPv4Address(HIGH), advskew=100, preempt=preempt)
    lan = started(pair(kind, config(source=IPv4Address(LOW)), theirs), OURS)
    settle(lan)
    lan.nodes[OURS].demote("maintenance", HARD)
    assert settle(lan) == (THEIRS if preempt or kind is OpenBSD else OURS)


@each_kind
@pytest.mark.parametrize("preempt", [False, True])
def test_their_demotion_is_seen_in_byte_4_of_openbsd_and_in_the_skew_of_the_others(
    kind: type[Foreign], preempt: bool
) -> None:
    ours = config(source=IPv4Address(LOW), advskew=100, preempt=preempt)
    lan = pair(kind, ours, config(source=IPv4Address(HIGH)), demotions=(0, 240))
    assert settle(started(lan, THEIRS)) == (OURS if preempt or kind is OpenBSD else THEIRS)


@each_kind
@pytest.mark.parametrize("preempt", [False, True])
def test_handing_over_needs_no_preempt_since_it_says_goodbye(kind: type[Foreign], preempt: bool) -> None:
    theirs = config(source=IPv4Address(HIGH), advskew=100, preempt=preempt)
    lan = started(pair(kind, config(source=IPv4Address(LOW)), theirs), OURS)
    settle(lan)
    lan.nodes[OURS].demote("maintenance", HARD)
    lan.nodes[OURS].deliver(events.HandOver())
    assert settle(lan) == THEIRS


# Two families --------------------------------------------------------------------------------------------------------


def both_families(source: str, second: str, advskew: int) -> GroupConfig:
    return config(source=IPv4Address(source), second_source=IPv6Address(second), advskew=advskew)


@pytest.mark.parametrize("kind", [OpenBSD, FreeBSD])
@ORDERS
@pytest.mark.parametrize("skews", [(0, 100), (100, 0)], ids=str)
def test_a_bsd_with_addresses_of_both_families_settles_with_us_who_advertise_over_both(
    kind: type[Foreign], first: int | None, skews: tuple[int, int]
) -> None:
    for seed in SEEDS:
        ours, theirs = both_families(LOW, "fe80::1", skews[OURS]), both_families(HIGH, "fe80::2", skews[THEIRS])
        settle(started(pair(kind, ours, theirs, seed=seed), first))


@pytest.mark.parametrize("kind", [OpenBSD, FreeBSD])
def test_it_takes_over_again_and_again_from_a_master_that_advertises_over_one_only(kind: type[Foreign]) -> None:
    """Its other timer fires each time: beside a BSD, a group with VIPs of both families advertises over both."""
    lan = pair(kind, config(source=IPv4Address(LOW)), both_families(HIGH, "fe80::2", 100))
    lan.start()
    lan.run(60.0)
    takeovers = [change for change in lan.history if change.node == THEIRS and change.after is Role.MASTER]
    assert len(takeovers) > 10


@pytest.mark.parametrize("kind", [NetBSD, Ucarp])
def test_those_without_ipv6_adverts_are_heard_on_ipv4_alone_and_our_ipv6_timer_learns_to_rest(
    kind: type[Foreign],
) -> None:
    lan = pair(kind, both_families(LOW, "fe80::1", 100), config(source=IPv4Address(HIGH)))
    assert settle(started(lan, THEIRS)) == THEIRS


# Any fleet -----------------------------------------------------------------------------------------------------------


def advertised(kind: type[Foreign] | None, settings: GroupConfig, demotion: int) -> float:
    """Return the interval that a node says, None being ours."""
    if kind is not None:
        return kind(settings, demotion=demotion).sc
    return timeval(settings.advbase, max(settings.advskew, min(settings.advskew + demotion, 240)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node; ``kind`` None is ours."""

    kind: type[Foreign] | None
    settings: GroupConfig
    demotion: int
    starts_at: float


MEMBERS = st.builds(
    Member,
    kind=st.sampled_from((None, *KINDS)),
    settings=st.builds(config, advskew=st.integers(0, 254), preempt=st.booleans()),
    demotion=st.sampled_from((0, 0, 0, HARD)),  # a lighter one would rank us differently with and without byte 4
    starts_at=st.floats(0, 10),
)


def of_one_mind(members: Sequence[Member]) -> bool:
    """Tell whether one of ours is there, and no demoted OpenBSD beside those who cannot read its byte.

    To OpenBSD a more demoted master is the worse one, to FreeBSD, NetBSD and ucarp the one with the longer interval.
    """
    kinds = {member.kind for member in members}
    demoted = any(member.kind is OpenBSD and member.demotion for member in members)
    return None in kinds and not (demoted and kinds - {None, OpenBSD})


def fleet(members: Sequence[Member], advbase: int, seed: int) -> MixedLan:
    settings = [
        replace(member.settings, advbase=advbase, source=IPv4Address(f"10.0.{9 - number}.{number + 1}"))
        for number, member in enumerate(members)
    ]
    kinds = {number: member.kind for number, member in enumerate(members) if member.kind is not None}
    lan = MixedLan(settings, kinds, seed=seed, demotions=[member.demotion for member in members])
    for node, member in zip(lan.nodes, members, strict=True):
        lan.at(member.starts_at, node.start)
    return lan


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    members=st.lists(
        MEMBERS, min_size=2, max_size=4, unique_by=lambda m: advertised(m.kind, m.settings, m.demotion)
    ).filter(of_one_mind),
    advbase=st.sampled_from((1, 1, 2)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_fleet_of_distinct_intervals_settles_on_one_master_and_again_where_that_one_dies(
    members: list[Member], advbase: int, seed: int
) -> None:
    lan = fleet(members, advbase, seed)
    master = settle(lan, within=60.0)
    lan.nodes[master].crash()
    assert settle(lan, within=60.0) != master


@pytest.mark.parametrize(("weights", "settles"), [((HARD, HARD), True), ((5, 1), False)], ids=["hard", "light"])
def test_demotions_are_hard_since_light_ones_go_round_in_circles_beside_those_who_read_no_byte(
    weights: tuple[int, int], settles: bool
) -> None:
    """The second of ours beats the first by its byte, ucarp beats the first by its interval, and then both yield."""
    members = [
        *(
            Member(kind=None, settings=config(advskew=skew), demotion=weight, starts_at=0.0)
            for skew, weight in enumerate(weights)
        ),
        Member(kind=Ucarp, settings=config(advskew=3, preempt=True), demotion=0, starts_at=0.0),
    ]
    lan = fleet(members, advbase=1, seed=0)
    lan.run(60.0)
    before = len(lan.history)
    lan.run(60.0)
    assert (len(lan.history) == before) is settles
