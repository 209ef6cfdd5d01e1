"""One group at work: frames on the wire and words to the parent, in order; what it counts and says."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from sidecar.engine.path import Port
from sidecar.engine.perform import GroupRunner
from sidecar.engine.receive import Arrival, read
from sidecar.ipc.messages import Bind, Message, Release, Renew
from sidecar.net.inquiry import Answer
from sidecar.net.neighbor import announcements
from sidecar.net.sockets import Frame
from sidecar.protocol import events, timing
from sidecar.protocol.auth import Authenticator
from sidecar.protocol.packet import Header, pack, parse_ipv4, unpack
from sidecar.protocol.types import CARP_GROUP, Role
from tests.fakes.plans import KEY, group_plan

MAC = bytes.fromhex("020000000011")
PEER = IPv4Address("10.0.0.12")
VIPS = (IPv4Address("10.0.0.200"), IPv6Address("fd00::200"))
ANNOUNCEMENTS = [frame for vip in VIPS for frame in announcements(mac=MAC, address=vip)]
LEASED, TICK = events.LeaseAnswered(error=None), events.Tick()


@dataclass
class Raw:
    """Takes the place of a raw socket: what was sent by unicast, and to whom."""

    sent: list[tuple[bytes, str]] = field(default_factory=list)

    def sendto(self, packet: bytes, address: tuple[str, int]) -> int:
        self.sent.append((packet, address[0]))
        return len(packet)


@dataclass
class Bench:
    """A group whose wire ends in our hand. ``done`` is what it sent and told, in order."""

    plan: Any = field(default_factory=group_plan)
    done: list[bytes | Message] = field(default_factory=list)
    reached: float | None = None
    watched: bool = True
    """Frames are read as they are sent; else they wait for ``take``."""

    def __post_init__(self) -> None:
        near, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (near, self.wire):
            end.setblocking(False)
        self.raw = Raw()
        self.port = Port("eth0", MAC, True, {4: near}, {4: self.raw})  # type: ignore[dict-item]
        self.runner = GroupRunner(self.plan, self.port, self._told, reached=self.reached)

    def _told(self, message: Message) -> None:
        if self.watched:
            self._collect()
        self.done.append(message)

    def _collect(self) -> None:
        while True:
            try:
                self.done.append(self.wire.recv(4096))
            except BlockingIOError:
                return

    def take(self) -> list[bytes | Message]:
        """Return what was done since the last call."""
        self._collect()
        self.watched = True
        taken, self.done = self.done, []
        return taken

    def adverts(self) -> list[Header]:
        """Return the adverts among what was done since the last call."""
        carp = [each for each in self.take() if isinstance(each, bytes) and each[12:14] == b"\x08\x00"]
        return [unpack(parse_ipv4(frame[14:]).payload) for frame in carp]

    def become_master(self) -> None:
        self.runner.start(resume=False, now=0.0)
        self.runner.handle(TICK, self.runner.group.deadline() or 0.0)
        self.runner.handle(LEASED, 3.0)
        self.take()

    def close(self) -> None:
        self.port.wires[4].close()
        self.wire.close()


STANDING = timing.standing(advbase=1, advskew=0, dead_ratio=3)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def advert(
    *,
    advbase: int = 1,
    advskew: int = 0,
    counter: int = 7,
    key: bytes = KEY,
    source: IPv4Address = PEER,
    demotion: int = 0,
) -> Arrival:
    mac = Authenticator(key=key, vhid=42, addresses=VIPS).sign(counter)
    header = Header(vhid=42, advbase=advbase, advskew=advskew, demotion=demotion, counter=counter, mac=mac)
    return Arrival(source=source, destination=CARP_GROUP, header=unpack(pack(header)))


# Out -----------------------------------------------------------------------------------------------------------------


def test_a_start_says_nothing_on_the_wire(bench: Bench) -> None:
    bench.runner.start(resume=False, now=0.0)
    assert bench.take() == []
    assert bench.runner.group.role is Role.BACKUP
    assert not bench.runner.is_master


def test_a_virtual_mac_is_shown_by_a_master_and_by_nobody_else() -> None:
    bench = Bench(plan=group_plan(mac="virtual"))
    virtual = bytes.fromhex("00005e00012a")
    bench.runner.start(resume=False, now=0.0)
    bench.runner.handle(TICK, 3.0)
    bench.runner.handle(LEASED, 3.0)
    frames = [each for each in bench.take() if isinstance(each, bytes)]
    assert {frame[6:12] for frame in frames} == {virtual}
    assert frames[1:] == [frame for vip in VIPS for frame in announcements(mac=virtual, address=vip)]
    bench.runner.handle(events.Stop(), 3.5)
    bench.runner.handle(events.LeaseReleased(), 3.5)
    (goodbye,) = [each for each in bench.take() if isinstance(each, bytes)]
    assert goodbye[6:12] == MAC
    bench.close()


def test_without_a_link_it_waits(bench: Bench) -> None:
    bench.port.up = False
    bench.runner.start(resume=False, now=0.0)
    assert bench.runner.role().role == "init"
    bench.runner.handle(events.LinkChanged(up=True), 1.0)
    assert bench.runner.role().role == "backup"


def test_a_takeover_is_one_advert_then_the_request_for_the_lease(bench: Bench) -> None:
    bench.runner.start(resume=False, now=0.0)
    bench.runner.handle(TICK, 3.0)
    frame, bind = bench.take()
    assert bind == Bind(group="web", until=3.0 + STANDING)
    assert isinstance(frame, bytes)
    assert frame[:14].hex(" ", 2) == "0100 5e00 0012 0200 0000 0011 0800"
    datagram = parse_ipv4(frame[14:])
    assert (datagram.source, datagram.destination, datagram.ttl) == (IPv4Address("10.0.0.11"), CARP_GROUP, 255)
    assert (frame[15], frame[20:22]) == (0x10, b"\x40\x00")  # low delay, don't fragment
    header = unpack(datagram.payload)
    assert (header.vhid, header.advbase, header.advskew, header.demotion) == (42, 1, 0, 0)
    assert Authenticator(key=KEY, vhid=42, addresses=VIPS).verify(header.counter, header.mac)
    assert len(datagram.payload) == 36
    assert bench.runner.is_master


def test_the_vips_are_announced_once_the_lease_stands(bench: Bench) -> None:
    bench.runner.start(resume=False, now=0.0)
    bench.runner.handle(TICK, 3.0)
    bench.take()
    bench.runner.handle(LEASED, 3.001)
    assert bench.take() == ANNOUNCEMENTS
    bench.runner.handle(LEASED, 3.002)
    assert bench.take() == []


def test_each_advert_comes_with_a_renewal(bench: Bench) -> None:
    bench.become_master()
    bench.runner.handle(TICK, 4.0)
    frame, renew = bench.take()
    assert isinstance(frame, bytes)
    assert renew == Renew(group="web", until=4.0 + STANDING)


def test_the_next_engine_goes_on_with_the_seals_of_the_one_that_died() -> None:
    first = Bench(group_plan(replay="strict"))
    first.runner.start(resume=False, now=0.0)
    first.runner.handle(TICK, 3.0)
    first.runner.handle(LEASED, 3.0)
    first.runner.handle(TICK, 4.0)
    told = {type(each): each for each in first.done if isinstance(each, Bind | Renew)}
    bound, renewed = told[Bind].seal_offset, told[Renew].seal_offset
    counters = [header.counter >> 24 for header in first.adverts()]
    assert [bound, renewed] == [counters[0] / 256 - 3.0, counters[-1] / 256 - 4.0]
    assert bound is not None
    assert renewed is not None
    assert renewed == pytest.approx(bound, abs=0.01)
    first.close()
    reached = 5.0 + renewed + 7200.0  # its clock has been set back since
    second = Bench(group_plan(replay="strict"), reached=reached)
    second.runner.start(resume=True, now=5.0)
    assert second.adverts()[0].counter >> 24 == int(reached * 256)
    second.close()


def test_a_resumed_master_advertises_and_binds_at_once(bench: Bench) -> None:
    bench.runner.start(resume=True, now=0.0)
    assert [type(each) for each in bench.take()] == [bytes, Bind]


TRANSPORTS = pytest.mark.parametrize(
    "sent", [{}, {"transport": "unicast", "peers": (str(PEER),)}], ids=["multicast", "unicast"]
)


@TRANSPORTS
def test_yielding_releases_and_then_tells_a_winner_of_our_kind_by_unicast(sent: dict[str, Any]) -> None:
    bench = Bench(group_plan(replay="strict", **sent))
    bench.become_master()
    bench.raw.sent.clear()
    bench.runner.handle(events.AdvertReceived(source=PEER, advbase=0, advskew=9, demotion=0, sealed=True), 3.5)
    assert bench.take() == [Release(group="web")]
    assert bench.raw.sent == []
    bench.runner.handle(events.LeaseReleased(), 3.5)
    assert [target for _, target in bench.raw.sent] == [str(PEER)]
    bench.close()


@TRANSPORTS
def test_yielding_to_a_stranger_is_one_more_advert_to_all_then_the_release(sent: dict[str, Any]) -> None:
    bench = Bench(group_plan(replay="compat", mac="virtual", **sent))
    bench.become_master()
    bench.raw.sent.clear()
    bench.runner.handle(events.AdvertReceived(source=PEER, advbase=0, advskew=9, demotion=0), 3.5)
    *to_all, release = bench.take()
    assert release == Release(group="web")
    assert [frame[6:12] for frame in to_all if isinstance(frame, bytes)] == (
        [] if sent else [MAC]
    )  # it is the winner's
    assert [target for _, target in bench.raw.sent] == ([str(PEER)] if sent else [])
    bench.raw.sent.clear()
    bench.runner.handle(events.LeaseReleased(), 3.5)
    assert (bench.take(), bench.raw.sent) == ([], [])
    bench.close()


@pytest.mark.parametrize("contested", [False, True])
def test_what_a_stranger_answers_for_is_announced_again(bench: Bench, contested: bool) -> None:
    def go_on(until: float) -> list[bytes | Message]:
        while (due := bench.runner.deadline) < until:
            bench.runner.handle(TICK, due)
            bench.runner.handle(LEASED, due)
        return [frame for frame in bench.take() if frame in ANNOUNCEMENTS]

    bench.port.ears = (bench.wire,)
    bench.become_master()
    assert go_on(6.5) == 3 * ANNOUNCEMENTS
    if contested:
        bench.runner.hear(Answer(address=VIPS[0], mac=bytes.fromhex("020000000099"), told=PEER, to=MAC), 6.5)
    assert go_on(60.0) == (ANNOUNCEMENTS if contested else [])


def test_with_unicast_a_rival_among_the_peers_gets_one_answer() -> None:
    bench = Bench(group_plan(replay="strict", transport="unicast", peers=(str(PEER), "10.0.0.77")))
    bench.become_master()
    bench.raw.sent.clear()
    bench.runner.handle(events.AdvertReceived(source=PEER, advbase=2, advskew=9, demotion=0, sealed=True), 3.5)
    assert [target for _, target in bench.raw.sent] == [str(PEER), "10.0.0.77"]
    bench.close()


def test_a_rival_is_answered_by_multicast_and_by_unicast() -> None:
    bench = Bench(group_plan(replay="strict"))
    bench.become_master()
    bench.runner.handle(events.AdvertReceived(source=PEER, advbase=2, advskew=9, demotion=0, sealed=True), 3.5)
    (to_all,) = bench.adverts()
    ((packet, target),) = bench.raw.sent
    also = unpack(parse_ipv4(packet).payload)
    assert target == str(PEER)
    assert (also.advbase, also.advskew) == (to_all.advbase, to_all.advskew) == (1, 0)
    assert also.counter != to_all.counter  # else the rival would take one for a replay of the other
    bench.close()


def test_a_planned_stop_releases_and_says_goodbye_only_when_it_is_done(bench: Bench) -> None:
    bench.become_master()
    bench.runner.handle(events.Stop(), 3.5)
    assert bench.take() == [Release(group="web")]
    assert not bench.runner.finished
    bench.runner.handle(events.LeaseReleased(), 3.6)
    (goodbye,) = bench.adverts()
    assert (goodbye.advbase, goodbye.advskew) == (255, 255)
    assert bench.runner.finished


def test_frames_carry_the_mac_that_the_interface_has_now(bench: Bench) -> None:
    bench.become_master()
    bench.port.mac = bytes.fromhex("020000000099")
    bench.runner.handle(TICK, 4.0)
    frame = bench.take()[0]
    assert isinstance(frame, bytes)
    assert frame[6:12] == bench.port.mac


# Counters ------------------------------------------------------------------------------------------------------------


def test_counters_begin_anywhere_and_go_up_by_one(bench: Bench) -> None:
    bench.become_master()
    for at in (4.0, 5.0, 6.0):
        bench.runner.handle(TICK, at)
    first, second, third = (header.counter for header in bench.adverts())
    mask = (1 << 64) - 1
    assert [second, third] == [(first + 1) & mask, (first + 2) & mask]
    other = Bench()
    other.runner.start(resume=True, now=0.0)
    assert other.adverts()[0].counter not in (first, second, third)
    other.close()


@pytest.mark.parametrize(("heard", "sent"), [(7, 8), ((1 << 64) - 1, 0)])
def test_it_goes_on_from_the_counter_that_was_heard(bench: Bench, heard: int, sent: int) -> None:
    bench.runner.start(resume=False, now=0.0)
    bench.runner.receive(advert(counter=heard), 1.0)
    bench.runner.handle(TICK, 4.0)
    assert [header.counter for header in bench.adverts()] == [sent]


def test_a_forged_counter_is_not_gone_on_from(bench: Bench) -> None:
    bench.become_master()
    bench.runner.handle(TICK, 4.0)
    (before,) = bench.adverts()
    bench.runner.receive(advert(counter=before.counter + 1000, key=bytes(20)), 4.5)
    bench.runner.handle(TICK, 5.0)
    assert [header.counter for header in bench.adverts()] == [(before.counter + 1) & ((1 << 64) - 1)]


@pytest.mark.parametrize("replay", ["compat", "strict"])
def test_what_one_sends_another_takes(replay: str) -> None:
    ours = Bench(group_plan(replay=replay))
    theirs = Bench(group_plan(replay=replay, source=str(PEER)))
    for bench in (ours, theirs):
        bench.runner.start(resume=False, now=0.0)
    theirs.runner.handle(TICK, 3.0)
    frame = theirs.take()[0]
    assert isinstance(frame, bytes)
    arrival = read(Frame(frame[14:], ours=True))
    ours.runner.receive(arrival, 3.0)
    assert ours.runner.status().adverts_received == 1
    assert ours.runner.group.master == PEER
    ours.runner.receive(arrival, 3.1)
    assert ours.runner.status().drops == ({"replayed": 1} if replay == "strict" else {})
    ours.close()
    theirs.close()


# In ------------------------------------------------------------------------------------------------------------------


def test_an_authentic_advert_reaches_the_machine(bench: Bench) -> None:
    bench.runner.start(resume=False, now=0.0)
    bench.runner.receive(advert(), 1.0)
    assert bench.runner.group.master == PEER
    assert bench.runner.group.deadline() == 4.0
    bench.runner.receive(advert(demotion=1), 1.1)
    bench.runner.handle(TICK, 1.1)
    assert bench.runner.is_master
    status = bench.runner.status()
    assert (status.adverts_received, status.drops) == (2, {})


def test_what_is_refused_changes_nothing_and_is_counted_by_its_reason(bench: Bench) -> None:
    bench.runner.start(resume=False, now=0.0)
    before = bench.runner.group.deadline()
    bench.runner.receive(advert(key=bytes(20)), 1.0)
    bench.runner.receive(advert(key=bytes(20)), 2.0)
    bench.runner.receive(advert(source=IPv4Address("10.0.0.11")), 2.0)
    bench.runner.receive(replace(advert(), destination=IPv4Address("224.0.0.99")), 2.0)
    status = bench.runner.status()
    assert status.drops == {"bad-hmac": 2, "own-echo": 1, "wrong-destination": 1}
    assert list(status.drops) == sorted(status.drops)
    assert status.adverts_received == 0
    assert bench.runner.group.deadline() == before
    assert bench.runner.group.master is None


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]


def test_a_refusal_is_reported_once_per_sender_also_when_that_sender_makes_sense_in_between(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = bytes(20)
    bench.runner.start(resume=False, now=0.0)
    for _ in range(3):
        bench.runner.receive(advert(key=wrong), 1.0)
    assert refusals(caplog) == ["adverts from 10.0.0.12 are refused: the password or the list of VIPs differs"]
    bench.runner.receive(advert(key=wrong, source=IPv4Address("10.0.0.13")), 1.0)
    assert len(refusals(caplog)) == 2
    bench.runner.receive(advert(), 1.0)
    bench.runner.receive(advert(key=wrong, source=IPv4Address("10.0.0.13")), 1.0)
    assert len(refusals(caplog)) == 2
    bench.runner.receive(advert(key=wrong), 1.0)
    assert len(refusals(caplog)) == 2
    assert {(r.__dict__["group"], r.__dict__["vhid"], r.__dict__["reason"]) for r in caplog.records} >= {
        ("web", 42, "bad-hmac")
    }


def test_a_flood_of_senders_fills_neither_log_nor_memory(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.runner.start(resume=False, now=0.0)
    for number in range(1000):
        bench.runner.receive(advert(key=bytes(20), source=IPv4Address(0x0A010000 + number)), 1.0)
    assert len(refusals(caplog)) <= 64
    assert bench.runner.status().drops == {"bad-hmac": 1000}


def test_a_rival_that_goes_on_is_reported_and_shown(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.become_master()
    for now in (4.0, 5.0, 6.0):
        bench.runner.receive(advert(advbase=2), now)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [
        f"{PEER} is master too and goes on although it was answered: it does not hear this node, or does not accept "
        "its adverts"
    ]
    assert bench.runner.status().rivals == (str(PEER),)


def test_a_takeover_beside_somebody_who_is_refused_says_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.runner.start(resume=False, now=0.0)
    for now in (0.5, 1.5):
        bench.runner.receive(advert(key=b"another password".ljust(20, b"\0")), now)
    bench.runner.handle(TICK, 3.0)
    (change,) = [record for record in caplog.records if "-> master" in record.getMessage()]
    assert change.getMessage() == (f"backup -> master: no advert was heard; refused were 2 from {PEER} (bad-hmac)")
    assert change.levelno == logging.WARNING


# Errors of the socket ------------------------------------------------------------------------------------------------


def fill(bench: Bench) -> None:
    """Let the queue of the wire be full from now on, until ``take``."""
    bench.watched = False
    for _ in range(100_000):
        try:
            bench.port.wires[4].send(b"")
        except BlockingIOError:
            return
    pytest.fail("the queue never filled up")


def test_a_send_that_fails_is_counted_and_said_once_until_one_succeeds(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.become_master()
    first = bench.runner.status()
    for number in range(2):
        fill(bench)
        for at in (4.0, 5.0):
            bench.runner.handle(TICK, at + 3 * number)
            bench.runner.handle(LEASED, at + 3 * number)
        status = bench.runner.status()
        assert status.adverts_sent == first.adverts_sent + number
        assert status.send_errors >= 2 * (number + 1)
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
            "cannot send on eth0: Resource temporarily unavailable"
        ] * (number + 1)
        bench.take()
        bench.runner.handle(TICK, 6.0 + 3 * number)
        assert bench.runner.status().adverts_sent == first.adverts_sent + number + 1
    assert bench.runner.is_master


def test_a_wire_that_is_gone_keeps_the_lease_renewed(bench: Bench) -> None:
    bench.become_master()
    bench.watched = False
    bench.wire.close()
    bench.runner.handle(TICK, 4.0)
    assert bench.done == [Renew(group="web", until=4.0 + STANDING)]
    assert bench.runner.is_master


# What people see -----------------------------------------------------------------------------------------------------


def test_a_role_change_is_told_with_its_reason(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = time.time()
    bench.runner.start(resume=False, now=0.0)
    flags = [bench.runner.role_changed]
    bench.runner.role_changed = False
    bench.runner.receive(advert(), 1.0)
    flags.append(bench.runner.role_changed)
    bench.runner.handle(TICK, 4.0)
    flags.append(bench.runner.role_changed)
    assert flags == [True, False, True]
    role = bench.runner.role()
    assert (role.name, role.role, role.reason, role.transitions) == ("web", "master", "master-down", 2)
    assert before <= role.since <= time.time()
    record = caplog.records[-1]
    assert record.getMessage() == "backup -> master: no advert from 10.0.0.12 for 3.000 s"
    fields = [record.__dict__[key] for key in ("group", "interface", "vhid", "reason")]
    assert fields == ["web", "eth0", 42, "master-down"]


def test_a_change_for_the_links_sake_names_the_interface(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.runner.start(resume=False, now=0.0)
    for up in (False, True):
        bench.runner.handle(events.LinkChanged(up=up), 1.0)
    assert caplog.messages[-2:] == [
        "backup -> init: the interface lost its carrier (eth0)",
        "init -> backup: the interface has its carrier back (eth0)",
    ]


def test_the_status_tells_all(bench: Bench) -> None:
    bench.runner.start(resume=False, now=0.0)
    status = bench.runner.status()
    assert (status.role, status.master, status.reason) == ("backup", None, "start")
    bench.runner.receive(advert(), 1.0)
    assert bench.runner.status().master == "10.0.0.12"
    bench.runner.handle(TICK, 4.0)
    bench.runner.handle(LEASED, 4.0)
    status = bench.runner.status()
    assert (status.name, status.interface, status.vhid, status.vips) == ("web", "eth0", 42, bench.plan.vips)
    assert (status.role, status.master, status.source) == ("master", "10.0.0.11", "10.0.0.11")
    assert (status.advbase, status.advskew, status.transitions) == (1, 0, 2)
    assert status.transitions_by_reason == {"master-down": 1, "start": 1}
    assert [(each.before, each.after, each.reason, each.detail) for each in status.history] == [
        ("init", "backup", "start", "listening for a master"),
        ("backup", "master", "master-down", status.detail),
    ]
    assert status.history[-1].at == status.since
    assert (status.adverts_sent, status.adverts_received, status.send_errors) == (1, 1, 0)
    assert status.detail == "no advert from 10.0.0.12 for 3.000 s"


def test_the_key_is_in_nothing_that_people_see(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.become_master()
    bench.runner.receive(advert(key=bytes(20)), 3.1)
    seen = f"{caplog.text} {bench.runner.status()} {bench.runner.role()} {bench.runner.plan}"
    assert "correct" not in seen
    assert KEY.hex() not in seen
