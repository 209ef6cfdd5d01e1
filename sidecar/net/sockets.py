"""Packet sockets for CARP over IPv4: opened by the parent, used by the engine.

``AF_PACKET`` rather than a raw IP socket (packet(7)): adverts are heard before netfilter and reverse-path filtering
can lose them, and ARP leaves through the same descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from sidecar.protocol.types import IPPROTO_CARP

ETH_P_IP = 0x0800
ETHERNET_HEADER = 14
BROADCAST_MAC = b"\xff" * 6

_SO_ATTACH_FILTER = 26
_SO_LOCK_FILTER = 44
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_PACKET_OTHERHOST = 3
_LARGEST = 2048

# Classic BPF over an Ethernet frame: accept if the byte at 14 + 9 (IPv4 protocol) is 112.
_CARP_FILTER = (
    (0x30, 0, 0, ETHERNET_HEADER + 9),  # ldb [23]
    (0x15, 0, 1, IPPROTO_CARP),  # jeq #112, next, reject
    (0x06, 0, 0, 0x40000),  # ret accept
    (0x06, 0, 0, 0),  # ret reject
)

_NOTHING_FILTER = ((0x06, 0, 0, 0),)  # ret reject

_INTERFACE_LOST = frozenset({errno.ENETDOWN, errno.ENODEV, errno.ENXIO})


@dataclass(frozen=True, slots=True)
class Frame:
    """A received IPv4 packet without its Ethernet header; ``ours`` is False if it went to another host's MAC."""

    packet: bytes
    ours: bool


def open_packet_socket(interface: str) -> socket.socket:
    """Open a packet socket on ``interface`` that receives IPv4 protocol 112 only, and lock its filter.

    Needs CAP_NET_RAW. Raises PermissionError, OSError (ENODEV and the like).
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: hears nothing before the filter stands
    try:
        _attach(sock, _CARP_FILTER)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setblocking(False)
        sock.bind((interface, ETH_P_IP))
    except OSError:
        sock.close()
        raise
    return sock


def open_raw_socket(interface: str) -> socket.socket:
    """Open a raw IPv4 socket (raw(7), protocol 112) that sends CARP by way of the kernel's own routes and ARP.

    It receives nothing, but that it is there keeps the kernel from answering unicast adverts with "protocol
    unreachable". Needs CAP_NET_RAW. Raises OSError.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_CARP)
    try:
        _attach(sock, _NOTHING_FILTER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def join(*, index: int, group: IPv4Address) -> socket.socket:
    """Join a multicast group on the interface with this index for as long as the returned socket is open.

    The kernel then programs the NIC's filter and sends the IGMP report that snooping switches wait for (ip(7),
    IP_ADD_MEMBERSHIP).
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        request = struct.pack("4s4si", group.packed, bytes(4), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    except OSError:
        sock.close()
        raise
    return sock


def multicast_mac(group: IPv4Address) -> bytes:
    """Return the Ethernet address of an IPv4 multicast group (RFC 1112, section 6.4)."""
    low = int(group) & 0x7FFFFF
    return bytes((0x01, 0x00, 0x5E)) + low.to_bytes(3, "big")


def receive(sock: socket.socket) -> Frame | None:
    """Return the next packet, or None if none waits or the interface is down. Raises OSError for anything else."""
    try:
        data, address = sock.recvfrom(_LARGEST)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in _INTERFACE_LOST:
            return None
        raise
    return Frame(data[ETHERNET_HEADER:], address[2] != _PACKET_OTHERHOST)


def send_to(sock: socket.socket, packet: bytes, address: IPv4Address) -> str | None:
    """Send one IPv4 packet by a raw socket; return None, or what went wrong in a few words."""
    return _try(lambda: sock.sendto(packet, (str(address), 0)))


def send(sock: socket.socket, frame: bytes) -> str | None:
    """Send one Ethernet frame; return None, or what went wrong (a full queue, a lost interface) in a few words."""
    return _try(lambda: sock.send(frame))


def _attach(sock: socket.socket, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    """Attach a filter (socket(7), SO_ATTACH_FILTER) and lock it."""
    buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
    program = struct.pack("HP", len(instructions), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def _try(action: Callable[[], int]) -> str | None:
    try:
        action()
    except OSError as error:
        return error.strerror or errno.errorcode.get(error.errno or 0, "unknown error")
    return None
