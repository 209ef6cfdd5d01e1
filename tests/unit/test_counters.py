"""Which counters our adverts carry, and which of others' are refused, with both clocks in the test's hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.counters import Continued, SealedCounters
from sidecar.engine.receive import Arrival
from sidecar.ipc.plan import GroupPlan
from sidecar.protocol.packet import Header, PacketError
from sidecar.protocol.seal import Sealed
from sidecar.protocol.types import CARP_GROUP, DropReason
from tests.fakes.plans import group_plan

EPOCH = 1_795_000_000.0
PEER, OTHER = IPv4Address("10.0.0.12"), IPv4Address("10.0.0.13")
NEW_KEY = b"a newer password".ljust(20, b"\0")
SAID = Sealed(source=PEER, advbase=1, advskew=50, demotion=3)


@dataclass
class Clock:
    """Unix seconds."""

    wall: float = EPOCH

    def __call__(self) -> float:
        return self.wall


def arrived(counter: int, said: Sealed = SAID) -> Arrival:
    header = Header(
        vhid=42, advbase=said.advbase, advskew=said.advskew, demotion=said.demotion, counter=counter, mac=bytes(20)
    )
    return Arrival(source=said.source, destination=CARP_GROUP, header=header)


@dataclass
class Node:
    """One sealing node; ``now`` is its monotonic clock."""

    plan: GroupPlan = field(default_factory=lambda: group_plan(replay="strict"))
    clock: Clock = field(default_factory=Clock)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.counters = SealedCounters(self.plan, wall=self.clock)
        self.counters.anchor(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.clock.wall += seconds

    def say(self, said: Sealed = SAID) -> Arrival:
        return arrived(self.counters.next(said, self.now), said)

    def refuse(self, arrival: Arrival, *, password: int = 0) -> DropReason | None:
        """Return why an advert is refused, or None if it is taken."""
        try:
            self.counters.accept(arrival, password, self.now)
        except PacketError as error:
            return error.reason
        return None


def test_other_keys_forget_nothing_of_what_was_heard() -> None:
    node, peer = Node(), Node()
    first = peer.say()
    assert node.refuse(first) is None
    both = group_plan(replay="strict", key=NEW_KEY, accepted_keys=(peer.plan.key,))
    node.counters.change_keys(both)
    assert node.refuse(first, password=1) is DropReason.REPLAYED
    peer.counters.change_keys(both)
    peer.pass_time(1.0)
    node.pass_time(1.0)
    assert node.refuse(peer.say()) is None


# compat --------------------------------------------------------------------------------------------------------------


def test_continued_counters_begin_at_random_and_rise_by_1() -> None:
    firsts = set()
    for _ in range(5):
        counters = Continued()
        counters.anchor(0.0)
        sent = [counters.next(SAID, now) for now in (0.0, 1.0, 1.0)]
        assert [each - sent[0] for each in sent] == [0, 1, 2]
        firsts.add(sent[0])
    assert len(firsts) == 5


@given(st.integers(0, 2**64 - 1))
def test_continued_counters_go_on_from_any_that_was_heard(heard: int) -> None:
    counters = Continued()
    counters.accept(arrived(heard), 0, 0.0)
    assert counters.next(SAID, 0.0) == (heard + 1) % 2**64


# strict: what is sent ------------------------------------------------------------------------------------------------


def tick(arrival: Arrival) -> int:
    return arrival.header.counter >> 24


def test_a_sealed_counter_begins_with_the_wall_clock_in_256ths_of_a_second() -> None:
    node = Node()
    assert tick(node.say()) == int(EPOCH * 256)
    node.pass_time(1.5)
    assert tick(node.say()) == int((EPOCH + 1.5) * 256)


def test_ticks_never_repeat_whatever_the_clocks_do() -> None:
    node = Node()
    said = [node.say() for _ in range(5)]
    node.clock.wall -= 3600.0
    node.counters.anchor(node.now)
    said += [node.say() for _ in range(5)]
    assert [second - first for first, second in itertools.pairwise(map(tick, said))] == [1] * 9


def test_a_step_of_the_wall_clock_moves_no_tick_until_the_next_anchor() -> None:
    node = Node()
    node.clock.wall += 3600.0
    node.pass_time(1.0)
    assert tick(node.say()) == int((EPOCH + 1.0) * 256)
    node.counters.anchor(node.now)
    assert tick(node.say()) == int((EPOCH + 3601.0) * 256)


def next_life(node: Node, *, resumed: bool, later: float = 0.0) -> Node:
    """The engine that comes after: it starts anew with what the parent remembers, and is master so much later."""
    after = Node(node.plan, node.clock, node.now)
    assert node.counters.offset is not None
    after.counters = SealedCounters(node.plan, wall=node.clock, reached=node.now + node.counters.offset)
    after.pass_time(0.0 if resumed else later)
    after.counters.anchor(after.now, resumed=resumed)
    return after


def test_whoever_has_sealed_nothing_has_no_offset() -> None:
    assert Node().counters.offset is None
    assert Continued().offset is None


@pytest.mark.parametrize("resumed", [True, False])
def test_the_next_engine_seals_above_the_last_ticks_although_the_clock_was_set_back(*, resumed: bool) -> None:
    node, peer = Node(), Node()
    for seconds in (1.0, 0.25):
        assert peer.refuse(node.say()) is None
        for each in (node, peer):
            each.pass_time(seconds)
    node.clock.wall -= 20.0
    after = next_life(node, resumed=resumed)
    assert peer.refuse(after.say()) is None
    assert tick(after.say()) == int((EPOCH + 1.25) * 256) + 1


@pytest.mark.parametrize(("resumed", "refused"), [(True, None), (False, DropReason.CLOCK_SKEW)])
def test_only_a_mastership_that_goes_on_takes_no_step_forward_either(
    *, resumed: bool, refused: DropReason | None
) -> None:
    node, peer = Node(), Node()
    assert peer.refuse(node.say()) is None
    for each in (node, peer):
        each.pass_time(1.0)
    node.clock.wall += 3600.0
    assert peer.refuse(next_life(node, resumed=resumed).say()) is refused


def test_a_new_mastership_of_the_next_engine_begins_with_a_clock_that_is_ahead() -> None:
    node = Node()
    node.say()
    node.pass_time(1.0)
    node.clock.wall += 10.0
    after = next_life(node, resumed=False)
    assert tick(after.say()) == int((EPOCH + 11.0) * 256)


def test_a_later_mastership_of_the_next_engine_runs_no_further_ahead_than_it_must() -> None:
    node = Node()
    node.say()
    node.pass_time(1.0)
    node.clock.wall -= 20.0
    assert tick(next_life(node, resumed=False, later=15.0).say()) == int((EPOCH + 1.0) * 256)
    assert tick(next_life(node, resumed=False, later=10.0).say()) == int((EPOCH + 6.0) * 256)


def test_what_was_inherited_counts_for_the_first_mastership_only() -> None:
    node = Node()
    node.say()
    node.clock.wall += 10.0
    after = next_life(node, resumed=True)
    after.counters.anchor(after.now)  # a rival was heard, who may have refused it for its clock
    assert tick(after.say()) == int((EPOCH + 10.0) * 256)


@given(st.lists(st.tuples(st.floats(0.004, 1e4), st.floats(-1e6, 1e6), st.booleans()), max_size=20))
def test_ticks_rise_over_any_lives_and_steps_and_a_resumed_mastership_never_runs_ahead(
    lives: list[tuple[float, float, bool]],
) -> None:
    node = Node()
    said = [tick(node.say())]
    for seconds, step, resumed in lives:
        node.pass_time(seconds)
        node.clock.wall += step
        node = next_life(node, resumed=resumed)
        said.append(tick(node.say()))
        if resumed:
            assert said[-1] <= said[-2] + seconds * 256 + 1
    assert said == sorted(set(said))


# strict: what is heard -----------------------------------------------------------------------------------------------


def test_a_sealed_advert_is_taken_once() -> None:
    ours, theirs = Node(), Node()
    advert = theirs.say()
    assert ours.refuse(advert) is None
    assert ours.refuse(advert) is DropReason.REPLAYED


def test_an_older_advert_is_refused_after_a_newer_one() -> None:
    ours, theirs = Node(), Node()
    first, second = theirs.say(), theirs.say()
    assert ours.refuse(second) is None
    assert ours.refuse(first) is DropReason.REPLAYED


@pytest.mark.parametrize(
    "altered",
    [
        replace(SAID, advbase=2),
        replace(SAID, advskew=0),
        replace(SAID, demotion=0),
        replace(SAID, source=OTHER),
        replace(SAID, source=IPv6Address("fe80::12")),
    ],
    ids=["advbase", "advskew", "demotion", "source", "family"],
)
def test_an_altered_advert_is_refused(altered: Sealed) -> None:
    ours, theirs = Node(), Node()
    assert ours.refuse(arrived(theirs.say().header.counter, altered)) is DropReason.BROKEN_SEAL


def test_a_refused_advert_leaves_no_trace() -> None:
    ours, theirs = Node(), Node()
    assert ours.refuse(arrived(theirs.say().header.counter, replace(SAID, advskew=0))) is DropReason.BROKEN_SEAL
    theirs.clock.wall += 3600.0
    theirs.counters.anchor(0.0)
    assert ours.refuse(theirs.say()) is DropReason.CLOCK_SKEW
    assert ours.refuse(Node().say()) is None


@pytest.mark.parametrize(("apart", "reason"), [(59.0, None), (61.0, DropReason.CLOCK_SKEW)])
@pytest.mark.parametrize("sign", [1, -1])
def test_clocks_may_differ_by_so_much(apart: float, reason: DropReason | None, sign: int) -> None:
    theirs = Node(clock=Clock(EPOCH + sign * apart))
    assert Node().refuse(theirs.say()) is reason


def test_the_allowed_difference_is_a_setting() -> None:
    ours = Node(group_plan(replay="strict", clock_skew=3600.0))
    assert ours.refuse(Node(clock=Clock(EPOCH + 3000.0)).say()) is None


def test_a_known_sender_stays_known_whatever_our_own_clock_does() -> None:
    ours, theirs = Node(), Node()
    assert ours.refuse(theirs.say()) is None
    ours.clock.wall += 86400.0
    for node in (ours, theirs):
        node.pass_time(1.0)
    assert ours.refuse(theirs.say()) is None


def test_each_sender_and_each_of_its_families_counts_by_itself() -> None:
    ours = Node()
    for source in (PEER, OTHER, IPv6Address("fe80::12")):
        assert ours.refuse(Node().say(replace(SAID, source=source))) is None


def test_the_seal_is_made_with_the_password_that_signs_and_opened_with_the_one_that_signed() -> None:
    changing = group_plan(replay="strict", key=NEW_KEY, accepted_keys=(group_plan().key,))
    old, new = Node(), Node(changing)
    assert new.refuse(old.say(), password=1) is None
    assert old.refuse(new.say()) is DropReason.BROKEN_SEAL
    assert Node(changing).refuse(new.say(replace(SAID, source=OTHER)), password=0) is None


def test_another_vhids_seal_is_none() -> None:
    assert Node(group_plan(replay="strict", vhid=43)).refuse(Node().say()) is DropReason.BROKEN_SEAL


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (DropReason.BROKEN_SEAL, "CARP_REPLAY"),
        (DropReason.REPLAYED, "clock that was set back"),
        (DropReason.CLOCK_SKEW, "more than 60 s away"),
    ],
)
def test_each_refusal_says_what_to_do(reason: DropReason, words: str) -> None:
    ours, theirs = Node(), Node()
    advert: Arrival = theirs.say()
    match reason:
        case DropReason.BROKEN_SEAL:
            advert = arrived(advert.header.counter + 1)
        case DropReason.REPLAYED:
            ours.refuse(advert)
        case _:
            advert = Node(clock=Clock(EPOCH + 3600.0)).say()
    with pytest.raises(PacketError, match=words) as caught:
        ours.counters.accept(advert, 0, 0.0)
    assert caught.value.reason is reason
