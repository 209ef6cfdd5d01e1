"""How a group's adverts get out and in: an interface with its sockets, and one IP version of a group on it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from socket import socket as Socket  # noqa: N812 - "socket" is the word for what a port has

from sidecar.engine.peers import Peers
from sidecar.ipc.plan import PathPlan
from sidecar.net import sockets
from sidecar.protocol import packet
from sidecar.protocol.packet import PacketError
from sidecar.protocol.types import DropReason, IPAddress

log = logging.getLogger(__name__)

FAILURES_PER_GROUP = 3
"""So many adverts in a row for each group, and the interface counts as unable to send (``CARP_SENDAD_MAX_ERRORS``)."""


@dataclass(slots=True)
class Port:
    """One interface as the engine uses it: its inherited sockets, by IP version, and what the parent says of the link.

    ``wires`` are packet sockets; ``raws`` are raw IP sockets, for unicast.
    """

    name: str
    mac: bytes
    up: bool
    wires: Mapping[int, Socket]
    raws: Mapping[int, Socket] = field(default_factory=dict)
    index: int = 0
    drops: Counter[DropReason] = field(default_factory=Counter)
    """Packets that were dropped before any group could be told."""
    strangers: Peers = field(default_factory=Peers)
    """Who sent them."""
    ears: tuple[Socket, ...] = ()
    """Packet sockets that hear answers to questions about VIPs; where there are none, nothing is asked."""
    gateways: tuple[IPAddress, ...] = ()
    own_macs: frozenset[bytes] = frozenset()
    """Of all interfaces of this node: what comes from them is no stranger's word."""
    groups: int = 0
    """How many groups send here."""
    failing: bool = False
    """Whether adverts have not been leaving for some time."""
    fault: str = ""
    """What was wrong with the last one that did not leave."""
    failed_at: float = -math.inf
    """When the last one did not (monotonic seconds)."""
    _row: int = 0

    def drop(self, error: PacketError, *, wall: float) -> None:
        """Count a packet that no group gets, and log its fault once in a while; ``wall`` is in Unix seconds."""
        self.drops[error.reason] += 1
        if error.source is not None and self.strangers.dropped(error.source, error.reason, wall=wall):
            log.info("packets from %s on %s are dropped: %s", error.source, self.name, error)

    def note_advert(self, error: str | None, now: float) -> None:
        """Count an advert that left (None) or did not; three in a row for each group change ``failing``."""
        if error is not None:
            self.fault, self.failed_at = error, now
        self._row = 0 if (error is None) is not self.failing else self._row + 1
        if self._row >= FAILURES_PER_GROUP * max(1, self.groups):
            self.failing = not self.failing
            self._row = 0


class Path:
    """One IP version of a group: where its adverts come from, where they go, and how those of others are addressed."""

    __slots__ = ("_port", "_transport", "destination", "source", "targets")

    def __init__(self, plan: PathPlan, *, transport: str, port: Port) -> None:
        self.source: IPAddress = ip_address(plan.source)
        unicast = transport == "unicast"
        self.destination: IPAddress = self.source if unicast else ip_address(plan.multicast_group)
        """Where this group's adverts are addressed to, as they arrive here."""
        self.targets = tuple(ip_address(peer) for peer in plan.peers) if unicast else (self.destination,)
        self._transport = transport
        self._port = port

    def transmit(self, payload: bytes, *, mac: bytes) -> list[str | None]:
        """Send one packed CARP header to everybody; return for each target None, or what went wrong.

        ``mac`` is what it comes from, but for unicast, which the kernel sends.
        """
        if self._transport == "unicast":
            return [self.send_to(target, payload) for target in self.targets]
        return [self._send_to_all(payload, target, mac) for target in self.targets]

    def send_to(self, target: IPAddress, payload: bytes) -> str | None:
        """Send one packed CARP header by unicast; return None, or what went wrong."""
        datagram = _wrap(payload, source=self.source, destination=target)
        return sockets.send_to(self._port.raws[self.source.version], datagram, target)

    def _send_to_all(self, payload: bytes, target: IPAddress, own: bytes) -> str | None:
        datagram = _wrap(payload, source=self.source, destination=target)
        version = self.source.version
        mac = sockets.BROADCAST_MAC if self._transport == "broadcast" else sockets.multicast_mac(target)
        ethertype = sockets.ETHERTYPES[version].to_bytes(2, "big")
        return sockets.send(self._port.wires[version], mac + own + ethertype + datagram)


def _wrap(payload: bytes, *, source: IPAddress, destination: IPAddress) -> bytes:
    match source:
        case IPv4Address():
            assert isinstance(destination, IPv4Address)  # noqa: S101 - narrowing; the settings are checked
            identification = int.from_bytes(payload[14:16], "big")  # the counter's end: any value that differs
            return packet.build_ipv4(
                source=source, destination=destination, identification=identification, payload=payload
            )
        case _:
            assert not isinstance(destination, IPv4Address)  # noqa: S101 - as above
            return packet.build_ipv6(source=source, destination=destination, payload=payload)
