"""One group at work on a wire that the test holds: what it makes of packets, and the frames that it sends."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sidecar.engine.path import Port
from sidecar.engine.perform import GroupRunner
from sidecar.engine.receive import find, read
from sidecar.ipc.messages import Bind, Message, Release, Renew
from sidecar.net.sockets import Frame
from sidecar.protocol import events
from sidecar.protocol.packet import Header, PacketError, parse, unpack
from sidecar.protocol.types import IPPROTO_CARP, DropReason, Role
from tests.fakes.engine import MAC
from tests.fakes.plans import group_plan
from tests.fakes.wire import VHID


class RawSocket(socket.socket):
    """A raw IP socket that keeps what is sent through it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sent: list[tuple[str, bytes]] = []

    def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
        self.sent.append((address[0], bytes(data)))
        return len(data)


class Station:
    """Use as a context manager. ``now`` is its clock; ``told`` is what it told its parent, who does all it asks for."""

    def __init__(self, **plan: Any) -> None:
        near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._raw = RawSocket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sockets = (near, self._far, self._raw)
        for each in self._sockets:
            each.setblocking(False)
        self.now = 0.0
        self.told: list[Message] = []
        self.port = Port("eth0", MAC, True, {4: near, 6: near}, {4: self._raw, 6: self._raw})
        self.runner = GroupRunner(group_plan(**{"vips": ("10.0.0.200/32",), **plan}), self.port, self.told.append)

    def __enter__(self) -> Self:
        self.runner.start(resume=False, now=self.now)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self._sockets:
            each.close()

    @property
    def role(self) -> Role:
        return self.runner.group.role

    def hear(self, packet: bytes, *, ours: bool = True) -> DropReason | None:
        """Take an IP packet off the wire as the engine does; return why it was dropped, or None if it counts."""
        try:
            arrival = read(Frame(packet, ours))
            runner = find(arrival, {VHID: self.runner})
        except PacketError as error:
            return error.reason
        before = Counter(self.runner.status().drops)
        asked = len(self.told)
        runner.receive(arrival, self.now)
        self._answer(asked)
        new = Counter(self.runner.status().drops) - before
        assert sum(new.values()) <= 1
        return DropReason(next(iter(new))) if new else None

    def handle(self, event: events.Event) -> None:
        asked = len(self.told)
        self.runner.handle(event, self.now)
        self._answer(asked)

    def _answer(self, asked: int) -> None:
        for message in self.told[asked:]:
            match message:
                case Bind() | Renew():
                    self.handle(events.LeaseAnswered(error=None))
                case Release():
                    self.handle(events.LeaseReleased())

    def pass_time(self, seconds: float) -> None:
        """Let the clock run and serve each deadline in its time."""
        end = self.now + seconds
        while (due := self.runner.group.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.handle(events.Tick())
        self.now = end

    def become_master(self) -> None:
        """Let the master-down timer fire, and forget what was sent until then."""
        self.pass_time(self.runner.group.master_down)
        assert self.role is Role.MASTER
        self.frames()

    def frames(self) -> list[bytes]:
        """Return the Ethernet frames that were sent since the last call."""
        return _drain(self._far)

    def routed(self) -> list[tuple[str, bytes]]:
        """Return the IP packets that were left to the kernel's routes (unicast) since the last call, and where to."""
        routed, self._raw.sent = self._raw.sent, []
        return routed

    def adverts(self) -> list[Header]:
        """Return the adverts among the frames that were sent since the last call."""
        return [unpack(parse(frame[14:]).payload) for frame in self.frames() if is_advert(frame)]


def is_advert(frame: bytes) -> bool:
    """Tell whether an Ethernet frame carries CARP over IPv4 or IPv6."""
    protocol_at = {b"\x08\x00": 23, b"\x86\xdd": 20}.get(frame[12:14])
    return protocol_at is not None and frame[protocol_at] == IPPROTO_CARP


StartStation = Callable[..., Station]
"""With changes to its plan, by keyword."""


def _drain(sock: socket.socket) -> list[bytes]:
    seen = []
    while True:
        try:
            seen.append(sock.recv(4096))
        except BlockingIOError:
            return seen
