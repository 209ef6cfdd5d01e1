"""Listening to the LAN for a while, and asking it for the VIPs' owners meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from sidecar.doctor.facts import Heard
from sidecar.ipc.plan import GroupPlan
from sidecar.net import inquiry, sockets
from sidecar.net.addresses import Addresses, Link
from sidecar.protocol import timing
from sidecar.protocol.types import IPAddress
from sidecar.sniff import KnownGroups, explain

PROBES = (0.0, 0.5, 1.0)
"""When the LAN is asked, in seconds: a lost frame is no proof that nobody has an address."""
LISTEN_AT_LEAST, LISTEN_AT_MOST = 4.0, 15.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the LAN told: the senders of protocol 112 but for ourselves, and the MACs that answer for VIPs."""

    heard: tuple[Heard, ...]
    owners: Mapping[IPAddress, str]


def long_enough(groups: Sequence[GroupPlan]) -> float:
    """Return how many seconds it takes to hear a master of each group, within reason."""
    patience = [timing.interval(advbase=group.advbase, advskew=254) * 2 for group in groups]
    return min(max(LISTEN_AT_LEAST, *patience, LISTEN_AT_LEAST), LISTEN_AT_MOST)


def ask(groups: Sequence[GroupPlan], *, seconds: float) -> Told:
    """Listen on the groups' interfaces for ``seconds``. Raises OSError."""
    with contextlib.ExitStack() as stack:
        with Addresses() as kernel:
            links = {link.name: link for link in kernel.links()}
            own = {str(address.interface.ip) for address in kernel.addresses() if not address.leased}
        station = _Station(groups, links, own, stack)
        ends, asked = time.monotonic() + seconds, 0
        begun = time.monotonic()
        while (now := time.monotonic()) < ends:
            if asked < len(PROBES) and now >= begun + PROBES[asked]:
                station.probe()
                asked += 1
            station.hear(within=min(ends - now, 0.1))
    return Told(tuple(dict.fromkeys(station.heard)), station.owners)


class _Station:
    """The sockets, and what came through them."""

    def __init__(
        self, groups: Sequence[GroupPlan], links: Mapping[str, Link], own: set[str], stack: contextlib.ExitStack
    ) -> None:
        self.heard: list[Heard] = []
        self.owners: dict[IPAddress, str] = {}
        self._own = own
        self._macs = {link.mac for link in links.values()}
        self._ears: dict[int, tuple[socket.socket, str, KnownGroups]] = {}
        self._probes: dict[int, tuple[socket.socket, bytes, IPAddress]] = {}
        for name in dict.fromkeys(group.interface for group in groups):
            known = KnownGroups(group for group in groups if group.interface == name)
            ear = stack.enter_context(sockets.open_sniffing_socket(name))
            self._ears[ear.fileno()] = (ear, name, known)
        for group in groups:
            link = links[group.interface]
            for path in group.paths:
                with contextlib.suppress(OSError):  # a sidecar that runs has joined already
                    stack.enter_context(sockets.join(index=link.index, group=ip_address(path.multicast_group)))
            for vip in group.vips if link.mac else ():
                address = ip_interface(vip).ip
                sock = stack.enter_context(sockets.open_probe_socket(link.name, address.version))
                self._probes[sock.fileno()] = (sock, link.mac, address)

    def probe(self) -> None:
        for sock, mac, address in self._probes.values():
            sockets.send(sock, inquiry.question(mac=mac, target=address))

    def hear(self, *, within: float) -> None:
        poll = select.poll()
        for descriptor in (*self._ears, *self._probes):
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(within * 1000):
            if descriptor in self._ears:
                self._hear_advert(*self._ears[descriptor])
            else:
                self._hear_owner(*self._probes[descriptor])

    def _hear_advert(self, sock: socket.socket, interface: str, known: KnownGroups) -> None:
        frame = sockets.receive_ethernet(sock)
        packet = None if frame is None else explain(interface, frame, time=time.time_ns(), judge=known)
        if packet is None or packet.record.source is None or packet.record.source in self._own:
            return
        record = packet.record
        heard = Heard(
            interface=interface,
            protocol=packet.protocol,
            vhid=record.vhid,
            source=packet.record.source,
            authentic=record.authentic,
        )
        if heard not in self.heard:
            self.heard.append(heard)

    def _hear_owner(self, sock: socket.socket, _: bytes, address: IPAddress) -> None:
        frame = sockets.receive_ethernet(sock)
        mac = None if frame is None else inquiry.owner(frame, address)
        if mac is not None and mac not in self._macs:
            self.owners[address] = mac.hex(":")
