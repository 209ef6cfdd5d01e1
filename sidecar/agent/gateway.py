"""Whether the default gateway answers ARP, found out without any right: the kernel is made to ask it.

A datagram to the gateway has the kernel resolve it, or confirm what it knows once that is stale; ``/proc/net/arp``
says what came of it. While the entry counts as reachable (15 to 45 s, base_reachable_time_ms) the kernel asks nobody,
so that a gateway's death shows up to a minute late. IPv4 and the main routing table only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from sidecar.agent.health import Ill, Result, Well

ROUTES = Path("/proc/net/route")
NEIGHBOURS = Path("/proc/net/arp")
_UP_BY_GATEWAY = 0x1 | 0x2  # RTF_UP, RTF_GATEWAY (net/route.h)
_COMPLETE = 0x2  # ATF_COM (net/if_arp.h): reachable, or stale and not yet refuted
_DISCARD = 9
_IP_UNICAST_IF = 50  # ip(7)
_LOOK_AGAIN = 0.05


@dataclass(frozen=True, slots=True)
class _Route:
    metric: int
    gateway: str


def default_gateway(routes: str, interface: str) -> str | None:
    """Return the gateway of the interface's default route of the lowest metric, as ``/proc/net/route`` has it."""
    found = []
    for line in routes.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[0] != interface:
            continue
        destination, gateway, flags, metric, mask = words[1], words[2], words[3], words[6], words[7]
        if int(destination, 16) == 0 == int(mask, 16) and int(flags, 16) & _UP_BY_GATEWAY == _UP_BY_GATEWAY:
            address = socket.inet_ntoa(int(gateway, 16).to_bytes(4, sys.byteorder))  # as it lies in memory
            found.append(_Route(int(metric), address))
    return min(found, key=lambda route: route.metric).gateway if found else None


def is_resolved(neighbours: str, address: str, interface: str) -> bool:
    """Tell whether the kernel has a MAC that it believes, from the text of ``/proc/net/arp``."""
    for line in neighbours.splitlines()[1:]:
        words = line.split()
        if len(words) >= 6 and words[0] == address and words[5] == interface:
            return bool(int(words[2], 16) & _COMPLETE)
    return False


async def ask(interface: str) -> Result:
    """Wait until the gateway is resolved; nobody there: for ever."""
    gateway = default_gateway(ROUTES.read_text(), interface)
    if gateway is None:
        return Ill("is not known: there is no IPv4 default route by that interface")
    _nudge(gateway, interface)
    while not is_resolved(NEIGHBOURS.read_text(), gateway, interface):
        await asyncio.sleep(_LOOK_AGAIN)
    return Well()


def _nudge(gateway: str, interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        # A failed entry, a full buffer, a filter: what counts is what the kernel knows afterwards.
        sock.setblocking(False)
        index = socket.if_nametoindex(interface)
        sock.setsockopt(socket.IPPROTO_IP, _IP_UNICAST_IF, struct.pack("!I", index))
        sock.sendto(b"", (gateway, _DISCARD))
