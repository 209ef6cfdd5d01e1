"""Somebody at the far end of a cable who asks the near end, a real kernel, by ARP, ND and echo, and hears what it says.

Use inside ``in_new_network``. The near end has 10.0.0.1 and fd00::1, the asker has 10.0.0.9 and fd00::9.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from sidecar.protocol.types import IPAddress
from tests.fakes.namespace import cable, ip
from tests.fakes.wire import rfc1071

OWN: dict[int, IPAddress] = {4: IPv4Address("10.0.0.1"), 6: IPv6Address("fd00::1")}
ASKER: dict[int, IPAddress] = {4: IPv4Address("10.0.0.9"), 6: IPv6Address("fd00::9")}
NEAR_MAC, FAR_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
KINDS = (("arp", 4), ("echo", 4), ("nd", 6), ("echo", 6))
"""Ways to ask and the IP versions for which they are."""

_ETH_P_ALL = 0x0003
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_ICMP, _UDP, _ICMPV6 = 1, 17, 58
_ECHO_REQUEST, _ECHO_REQUEST6, _SOLICITATION, _ADVERTISEMENT = 8, 128, 135, 136
_PATIENCE = 60.0


class Neighbour:
    """Makes the cable with the addresses of both ends."""

    def __init__(self) -> None:
        # On one CPU, frames come out in the order in which they went in.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        cable()
        ip("link set near arp on")
        for version, length in ((4, 24), (6, 64)):
            self.bind(OWN[version], length)
            ip(f"neighbour add {ASKER[version]} lladdr {FAR_MAC.hex(':')} dev near nud permanent")
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self.wire.bind(("far", _ETH_P_ALL))
        self.wire.settimeout(_PATIENCE)

    def close(self) -> None:
        self.wire.close()

    def bind(self, address: IPAddress, length: int) -> None:
        """Give the near end an address."""
        ip(f"address add {address}/{length} dev near{' nodad' if address.version == 6 else ''}")
        for _ in range(1000):  # also without DAD, the kernel comes to an IPv6 address only a little later
            if f"local {address} " in ip(f"-{address.version} route show table local dev near"):
                return
        raise TimeoutError(f"the kernel does not come to {address}")

    def answered(self, kind: str, address: IPAddress) -> bool:
        """Ask the near end for ``address``; tell whether it answers."""
        self.wire.send(question(kind, address))
        return (kind, address) in self.heard(kind, address.version)

    def heard(self, kind: str = "arp", version: int = 4) -> list[tuple[str, IPAddress]]:
        """Return what the near end has said so far: the kind, and the address in whose name.

        No waiting: it is asked for its own address, and its answer to that comes after all else.
        """
        self.wire.send(question(kind, OWN[version]))
        heard: list[tuple[str, IPAddress]] = []
        while not heard or heard[-1] != (kind, OWN[version]):
            said = speech(self.wire.recv(65536))
            if said:
                heard.append(said)
        return heard[:-1]


def question(kind: str, address: IPAddress) -> bytes:
    """Return the frame that asks for ``address``: who has it, or an echo request to it."""
    match kind, address:
        case "arp", IPv4Address():
            body = struct.pack("!HHBBH6s4s6s4s", 1, _IPV4, 6, 4, 1, FAR_MAC, ASKER[4].packed, bytes(6), address.packed)
            return _frame(b"\xff" * 6, _ARP, body)
        case "echo", IPv4Address():
            return _frame(
                NEAR_MAC, _IPV4, _ipv4(address, _ICMP, _summed(struct.pack("!BBHI", _ECHO_REQUEST, 0, 0, 1), 2))
            )
        case "echo", IPv6Address():
            return _frame(
                NEAR_MAC, _IPV6, _ipv6(address, _ICMPV6, struct.pack("!BBHI", _ECHO_REQUEST6, 0, 0, 1), checksum_at=2)
            )
        case "nd", IPv6Address():
            group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])
            body = struct.pack("!BBHI16sBB6s", _SOLICITATION, 0, 0, 0, address.packed, 1, 1, FAR_MAC)
            return _frame(b"\x33\x33" + group.packed[12:], _IPV6, _ipv6(group, _ICMPV6, body, checksum_at=2))
    raise ValueError(f"{kind} for {address}")


def datagram(address: IPAddress, port: int) -> bytes:
    """Return the frame of an empty UDP datagram to that address and port."""
    head = struct.pack("!HHH", port, port, 8)
    match address:
        case IPv4Address():
            return _frame(NEAR_MAC, _IPV4, _ipv4(address, _UDP, head + bytes(2)))  # no checksum, as is allowed there
        case IPv6Address():
            return _frame(NEAR_MAC, _IPV6, _ipv6(address, _UDP, head + bytes(2), checksum_at=6))


def _ipv4(destination: IPv4Address, protocol: int, body: bytes) -> bytes:
    size = 20 + len(body)
    addresses = ASKER[4].packed + destination.packed
    header = struct.pack("!BBHHHBBH8s", 0x45, 0, size, 0, 0, 64, protocol, 0, addresses)
    return _summed(header, 10) + body


def _ipv6(destination: IPv6Address, protocol: int, body: bytes, *, checksum_at: int) -> bytes:
    addresses = ASKER[6].packed + destination.packed
    checksum = rfc1071(addresses + struct.pack("!II", len(body), protocol) + body)
    body = body[:checksum_at] + checksum.to_bytes(2, "big") + body[checksum_at + 2 :]
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 255) + addresses + body


def _summed(data: bytes, at: int) -> bytes:
    return data[:at] + rfc1071(data).to_bytes(2, "big") + data[at + 2 :]


def _frame(destination: bytes, kind: int, body: bytes) -> bytes:
    return destination + FAR_MAC + kind.to_bytes(2, "big") + body


def speech(frame: bytes) -> tuple[str, IPAddress] | None:
    """Return what kind of thing the near end says and for which address; None for frames of others."""
    if frame[6:12] != NEAR_MAC:
        return None
    body = frame[14:]
    match int.from_bytes(frame[12:14], "big"):
        case 0x0806:
            return "arp", ip_address(body[14:18])
        case 0x0800:
            return "echo" if body[9] == _ICMP and body[20] == 0 else "ipv4", ip_address(body[12:16])
        case 0x86DD if body[6] == _ICMPV6 and body[40] == _ADVERTISEMENT:
            return "nd", ip_address(body[48:64])
        case 0x86DD:
            return "echo" if body[6] == _ICMPV6 and body[40] == 129 else "ipv6", ip_address(body[8:24])
    return None
