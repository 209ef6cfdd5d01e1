"""What one advert costs the engine: received by a backup and sent by a master, without the system calls."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from socket import socket
from typing import Any, cast

import msgspec

from sidecar.engine.path import Port
from sidecar.engine.perform import GroupRunner
from sidecar.engine.receive import Arrival, authenticate, find, read
from sidecar.ipc.plan import GroupPlan, PathPlan
from sidecar.net.sockets import ETHERNET_HEADER, Frame
from sidecar.protocol import packet
from sidecar.protocol.events import AdvertReceived, LeaseAnswered, Start, Tick
from sidecar.protocol.seal import Sealed

_ARP = b"\x08\x06"
_VHID = 42
_PATHS = {4: ("10.0.0.1", "10.0.0.2", "224.0.0.18"), 6: ("fe80::1", "fe80::2", "ff02::12")}
"""By IP version: the master's address, the backup's, and where adverts go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Adverts of one kind: over IPv4 or IPv6, their counters continued (``compat``) or sealed (``strict``)."""

    version: int
    replay: str

    def __str__(self) -> str:
        return f"IPv{self.version}, {'sealed' if self.replay == 'strict' else 'compat'}"


KINDS = tuple(Kind(version=version, replay=replay) for version in (4, 6) for replay in ("compat", "strict"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Microseconds of CPU time for one advert: all in all, and of that each part. Medians of several runs."""

    kind: str
    total: float
    parts: dict[str, float]


class _Wire:
    """Takes the adverts that an engine sends."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> int:
        if frame[12:14] != _ARP:  # the VIP is announced again every minute
            self.frames.append(frame)
        return len(frame)


def received(*, adverts: int, runs: int) -> tuple[Cost, ...]:
    """Measure a backup that hears its master: of each kind ``runs`` times ``adverts``."""
    return _medians(_receive, adverts=adverts, runs=runs)


def sent(*, adverts: int, runs: int) -> tuple[Cost, ...]:
    """Measure a master that sends, and has each renewal confirmed: of each kind ``runs`` times ``adverts``."""
    return _medians(_send, adverts=adverts, runs=runs)


def _medians(measure: Callable[[Kind, int], dict[str, float]], *, adverts: int, runs: int) -> tuple[Cost, ...]:
    """Measure all kinds in turn, so that whatever else the machine does meets them alike."""
    rounds = [[measure(kind, adverts) for kind in KINDS] for _ in range(runs)]
    return tuple(_median(str(kind), [each[at] for each in rounds]) for at, kind in enumerate(KINDS))


def _receive(kind: Kind, adverts: int) -> dict[str, float]:
    master, wire = _master(kind)
    for number in range(adverts):
        _second(master, 10.0 + number)
    frames = [Frame(frame[ETHERNET_HEADER:], True) for frame in wire.frames[-adverts:]]
    backup, judge = _backup(kind), _backup(kind)
    groups = {_VHID: backup}

    def whole(at: int) -> None:
        arrival = read(frames[at])
        find(arrival, groups).receive(arrival, 10.0 + at)

    arrivals = [read(frame) for frame in frames]
    payloads = [packet.parse(frame.packet).payload for frame in frames]
    heard = [_event(arrival, kind) for arrival in arrivals]
    counters = cast(Any, judge)._counters
    times = _times(
        adverts,
        whole,
        {
            "parse": lambda at: packet.unpack(packet.parse(frames[at].packet).payload),
            "checksum": lambda at: packet.checksum_ok(payloads[at]),
            "HMAC": lambda at: authenticate(arrivals[at], judge),
            "counter or seal": lambda at: counters.accept(arrivals[at], 0, 10.0 + at),
            "machine": lambda at: judge.group.handle(heard[at], 10.0 + at),
        },
    )
    if backup.status().adverts_received != adverts:
        raise RuntimeError(f"some of the adverts were refused: {backup.status().drops}")
    return times


def _send(kind: Kind, adverts: int) -> dict[str, float]:
    master, _ = _master(kind)
    judge, _ = _master(kind)
    source = ip_address(_PATHS[kind.version][0])
    said = Sealed(source=source, advbase=1, advskew=0, demotion=0)
    path = judge.path(kind.version)
    assert path is not None
    authenticator = judge.authenticators[0]
    counters = cast(Any, judge)._counters
    header = packet.Header(vhid=_VHID, advbase=1, advskew=0, counter=7, mac=authenticator.sign(7))
    payload = packet.pack(header)

    def machine(at: int) -> None:
        judge.group.handle(Tick(), 10.0 + at)
        judge.group.handle(LeaseAnswered(error=None), 10.0 + at)

    return _times(
        adverts,
        lambda at: _second(master, 10.0 + at),
        {
            "machine": machine,
            "counter or seal": lambda at: counters.next(said, 10.0 + at),
            "HMAC": authenticator.sign,
            "header, checksum": lambda _: packet.pack(header),
            "IP, Ethernet": lambda _: path.transmit(payload, mac=judge.port.mac),
        },
    )


def _second(master: GroupRunner, now: float) -> None:
    """Let a master send its next advert, and confirm the renewal that goes with it."""
    master.handle(Tick(), now)
    master.handle(LeaseAnswered(error=None), now)


def _times(count: int, whole: Callable[[int], object], parts: dict[str, Callable[[int], object]]) -> dict[str, float]:
    return {"total": _time(count, whole), **{name: _time(count, part) for name, part in parts.items()}}


def _time(count: int, action: Callable[[int], object]) -> float:
    """Return the microseconds of this thread's CPU time that one of ``count`` calls took."""
    gc.collect()
    gc.disable()
    try:
        begun = time.thread_time_ns()
        for at in range(count):
            action(at)
        return (time.thread_time_ns() - begun) / count / 1000
    finally:
        gc.enable()


def _median(kind: str, runs: Sequence[dict[str, float]]) -> Cost:
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    total = medians.pop("total")
    return Cost(kind=kind, total=total, parts=medians | {"the rest": total - sum(medians.values())})


def _event(arrival: Arrival, kind: Kind) -> AdvertReceived:
    header = arrival.header
    return AdvertReceived(
        source=arrival.source,
        advbase=header.advbase,
        advskew=header.advskew,
        demotion=header.demotion,
        sealed=kind.replay == "strict",
    )


def _plan(kind: Kind, source: str) -> GroupPlan:
    return GroupPlan(
        name="web",
        interface="eth0",
        vhid=_VHID,
        vips=("10.0.0.200/32",),
        paths=(PathPlan(source=source, multicast_group=_PATHS[kind.version][2]),),
        key=b"correct horse batter",
        advbase=1,
        advskew=0,
        dead_ratio=3,
        preempt=False,
        replay=kind.replay,
    )


def _runner(kind: Kind, source: str, wire: _Wire, *, advskew: int) -> GroupRunner:
    plan = msgspec.structs.replace(_plan(kind, source), advskew=advskew)
    port = Port(name="eth0", mac=bytes(6), up=True, wires={kind.version: cast(socket, wire)})
    return GroupRunner(plan, port, lambda _: None)


def _master(kind: Kind) -> tuple[GroupRunner, _Wire]:
    wire = _Wire()
    master = _runner(kind, _PATHS[kind.version][0], wire, advskew=0)
    master.handle(Start(link_up=True), 0.0)
    for now in (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0):  # past its announcements
        _second(master, now)
    return master, wire


def _backup(kind: Kind) -> GroupRunner:
    backup = _runner(kind, _PATHS[kind.version][1], _Wire(), advskew=100)
    backup.handle(Start(link_up=True), 9.0)
    return backup
