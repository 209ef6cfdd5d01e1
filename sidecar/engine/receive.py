"""From a frame to an authentic advert, or to the one reason why it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol, TypeVar

from sidecar.net.sockets import Frame
from sidecar.protocol import packet
from sidecar.protocol.auth import Authenticator
from sidecar.protocol.packet import PacketError
from sidecar.protocol.types import HOP_LIMIT, DropReason


class Receiver(Protocol):
    """What has to be known of a group to judge a packet for it."""

    source: IPv4Address
    destination: IPv4Address
    authenticators: tuple[Authenticator, ...]


R = TypeVar("R", bound=Receiver)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An IPv4 packet that holds a sound CARP header; nobody has vouched for it yet."""

    source: IPv4Address
    destination: IPv4Address
    header: packet.Header


def read(frame: Frame) -> Arrival:
    """Check what can be checked without knowing the groups, in the order of ``carp_proto_input_if``.

    Raises PacketError.
    """
    datagram = packet.parse_ipv4(frame.packet)
    if not frame.ours:
        raise PacketError(DropReason.WRONG_DESTINATION, "sent to another host's MAC")
    if datagram.ttl != HOP_LIMIT:
        raise PacketError(DropReason.BAD_TTL, f"TTL {datagram.ttl}: it came through a router")
    header = packet.unpack(datagram.payload)
    packet.check(header, datagram.payload)
    return Arrival(source=datagram.source, destination=datagram.destination, header=header)


def find(arrival: Arrival, groups: Mapping[int, R]) -> R:
    """Return the group (by vhid) that the packet is for. Raises PacketError (UNKNOWN_VHID)."""
    group = groups.get(arrival.header.vhid)
    if group is None:
        raise PacketError(DropReason.UNKNOWN_VHID, f"vhid {arrival.header.vhid} is not ours")
    return group


def authenticate(arrival: Arrival, group: Receiver) -> int:
    """Return which of the group's passwords signed the packet, from 0.

    Raises PacketError for what is not for this group or not from one of its members.
    """
    if arrival.destination != group.destination:
        raise PacketError(DropReason.WRONG_DESTINATION, f"sent to {arrival.destination}, not {group.destination}")
    if arrival.source == group.source:
        raise PacketError(DropReason.OWN_ECHO, "it carries our own source address: a loop, or an address used twice")
    for number, authenticator in enumerate(group.authenticators):
        if authenticator.verify(arrival.header.counter, arrival.header.mac):
            return number
    raise PacketError(DropReason.BAD_HMAC, "the password or the list of VIPs differs")
