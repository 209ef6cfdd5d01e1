"""From a frame to an authentic advert, or to the one reason why it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sidecar.capture.vrrp import WireProtocol, wire_protocol
from sidecar.net.sockets import Frame
from sidecar.protocol import packet
from sidecar.protocol.auth import Authenticator
from sidecar.protocol.packet import PacketError
from sidecar.protocol.types import HOP_LIMIT, DropReason, IPAddress


class Addressed(Protocol):
    """How a group's adverts are addressed in one IP version."""

    @property
    def source(self) -> IPAddress:
        """Our own address."""
        ...

    @property
    def destination(self) -> IPAddress:
        """Where adverts for us go to."""
        ...


class Receiver(Protocol):
    """What has to be known of a group to judge a packet for it."""

    authenticators: tuple[Authenticator, ...]

    def path(self, version: int) -> Addressed | None:
        """Return how adverts over IPv4 or IPv6 are addressed, or None if the group does not speak it."""
        ...


R = TypeVar("R", bound=Receiver)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An IP packet that holds a sound CARP header; nobody has vouched for it yet."""

    source: IPAddress
    destination: IPAddress
    header: packet.Header


def read(frame: Frame) -> Arrival:
    """Check what can be checked without knowing the groups, in the order of ``carp_proto_input_if``.

    Raises PacketError.
    """
    datagram = packet.parse(frame.packet)
    try:
        return _judge(datagram, ours=frame.ours)
    except PacketError as error:
        error.source = datagram.source
        spoken = wire_protocol(datagram.payload)
        if spoken is WireProtocol.CARP:
            raise
        detail = f"{spoken} router {datagram.payload[1]}, not CARP: {error}"
        raise PacketError(error.reason, detail, source=datagram.source) from error


def _judge(datagram: packet.Datagram, *, ours: bool) -> Arrival:
    if not ours:
        raise PacketError(DropReason.WRONG_DESTINATION, "sent to another host's MAC")
    if datagram.ttl != HOP_LIMIT:
        raise PacketError(DropReason.BAD_TTL, f"TTL or hop limit {datagram.ttl}: it came through a router")
    header = packet.unpack(datagram.payload)
    packet.check(header, datagram.payload)
    return Arrival(source=datagram.source, destination=datagram.destination, header=header)


def find(arrival: Arrival, groups: Mapping[int, R]) -> R:
    """Return the group (by vhid) that the packet is for. Raises PacketError (UNKNOWN_VHID)."""
    group = groups.get(arrival.header.vhid)
    if group is None:
        detail = f"vhid {arrival.header.vhid} is not ours"
        raise PacketError(DropReason.UNKNOWN_VHID, detail, source=arrival.source)
    return group


def authenticate(arrival: Arrival, group: Receiver) -> int:
    """Return which of the group's passwords signed the packet, from 0.

    Raises PacketError for what is not for this group or not from one of its members.
    """
    path = group.path(arrival.source.version)
    if path is None:
        raise PacketError(DropReason.WRONG_DESTINATION, f"IPv{arrival.source.version}, which this group does not speak")
    # By unicast a master answers a rival that may not hear what it sends to all.
    if arrival.destination not in (path.destination, path.source):
        raise PacketError(DropReason.WRONG_DESTINATION, f"sent to {arrival.destination}, not {path.destination}")
    if arrival.source == path.source:
        raise PacketError(DropReason.OWN_ECHO, "it carries our own source address: a loop, or an address used twice")
    for number, authenticator in enumerate(group.authenticators):
        if authenticator.verify(arrival.header.counter, arrival.header.mac):
            return number
    raise PacketError(DropReason.BAD_HMAC, "the password or the list of VIPs differs")
