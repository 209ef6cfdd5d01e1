"""Sockets for CARP over IPv4 and IPv6: opened by the parent, used by the engine.

``AF_PACKET`` rather than a raw IP socket (packet(7)): adverts are heard before netfilter and reverse-path filtering
can lose them, and ARP leaves through the same descriptor. One socket per interface and address family.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Literal, TypeAlias

from sidecar.net.inquiry import Instruction, answers_filter
from sidecar.protocol.types import IPPROTO_CARP, IPAddress

Family: TypeAlias = Literal[4, 6]
"""An IP version, as ``IPv4Address.version`` and ``IPv6Address.version`` have it."""

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_ARP = 0x0806
ETHERTYPES: Mapping[Family, int] = MappingProxyType({4: ETH_P_IP, 6: ETH_P_IPV6})
_ETH_P_ALL = 0x0003
ETHERNET_HEADER = 14
BROADCAST_MAC = b"\xff" * 6

_SO_ATTACH_FILTER = 26
_SO_LOCK_FILTER = 44
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_ALLMULTI = 2
_PACKET_IGNORE_OUTGOING = 23
_PACKET_OTHERHOST = 3
_LARGEST = 2048

_PROTOCOL_AT: Mapping[Family, int] = MappingProxyType({4: ETHERNET_HEADER + 9, 6: ETHERNET_HEADER + 6})
"""Where an Ethernet frame has IPv4's protocol and IPv6's next header."""

_VLAN_TAG_PRESENT = 0xFFFFF000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT
_IPV6_EXTENSIONS = (0, 43, 44, 60)  # hop-by-hop, routing, fragment, destination options

# Classic BPF over an untagged Ethernet frame: protocol 112 of either family, over IPv6 behind one extension header too.
_SNIFF_FILTER = (
    (0x20, 0, 0, _VLAN_TAG_PRESENT),  # ld vlan_tag_present
    (0x15, 0, 14, 0),  # jeq #0, next, reject
    (0x28, 0, 0, 12),  # ldh [ethertype]
    (0x15, 0, 2, ETH_P_IP),  # jeq #IPv4, next, IPv6
    (0x30, 0, 0, _PROTOCOL_AT[4]),  # ldb [protocol]
    (0x15, 9, 10, IPPROTO_CARP),  # jeq #112, accept, reject
    (0x15, 0, 9, ETH_P_IPV6),  # jeq #IPv6, next, reject
    (0x30, 0, 0, _PROTOCOL_AT[6]),  # ldb [next header]
    *((0x15, 4 - n, 0, header) for n, header in enumerate(_IPV6_EXTENSIONS)),  # jeq #extension, look behind it
    (0x15, 2, 3, IPPROTO_CARP),  # jeq #112, accept, reject
    (0x30, 0, 0, ETHERNET_HEADER + 40),
    (0x15, 0, 1, IPPROTO_CARP),  # jeq #112, accept, reject
    (0x06, 0, 0, 0x40000),  # ret accept
    (0x06, 0, 0, 0),  # ret reject
)

_NOTHING_FILTER = ((0x06, 0, 0, 0),)  # ret reject

_IPV6_HDRINCL = 36
_INTERFACE_LOST = frozenset({errno.ENETDOWN, errno.ENODEV, errno.ENXIO})


@dataclass(frozen=True, slots=True)
class Frame:
    """A received IP packet without its Ethernet header; ``ours`` is False if it went to another host's MAC."""

    packet: bytes
    ours: bool


def open_packet_socket(interface: str, family: Family) -> socket.socket:
    """Open a packet socket on ``interface`` that receives protocol 112 of one family only, and lock its filter.

    Over IPv6, what hides behind extension headers does not pass. Needs CAP_NET_RAW. Raises PermissionError, OSError
    (ENODEV and the like).
    """
    return _hearing_others(interface, ETHERTYPES[family], _carp_filter(family))


def open_sniffing_socket(interface: str) -> socket.socket:
    """Open a packet socket on ``interface`` that hears all of protocol 112, our own packets too, and sends none.

    It hears every multicast group, and unicast between others where the NIC delivers it; VLAN-tagged frames are heard
    on the VLAN's own interface. Needs CAP_NET_RAW. Raises PermissionError, OSError (ENODEV and the like).
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        _attach(sock, _SNIFF_FILTER)
        sock.setblocking(False)
        sock.bind((interface, _ETH_P_ALL))
        request = struct.pack("iHH8s", socket.if_nametoindex(interface), _PACKET_MR_ALLMULTI, 0, b"")
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
    except OSError:
        sock.close()
        raise
    return sock


def open_answers_socket(interface: str, family: Family, addresses: Collection[IPAddress]) -> socket.socket:
    """Open a packet socket on ``interface`` that hears answers of ARP or ND from or to ``addresses``, and sends none.

    It hears those too that go to the MAC of a macvlan on the interface. Needs CAP_NET_RAW. Raises PermissionError,
    OSError.
    """
    return _hearing_others(interface, _resolves(family), answers_filter(family, addresses))


def open_probe_socket(interface: str, family: Family) -> socket.socket:
    """Open a packet socket on ``interface`` that asks who has an address, and hears all of ARP or IPv6.

    Needs CAP_NET_RAW. Raises PermissionError, OSError.
    """
    return _hearing_others(interface, _resolves(family), None)


def _resolves(family: Family) -> int:
    """Return the EtherType of the protocol that finds the MAC of an address."""
    return ETH_P_ARP if family == 4 else ETH_P_IPV6


def _hearing_others(interface: str, ethertype: int, program: Sequence[Instruction] | None) -> socket.socket:
    """Open a packet socket for one EtherType that does not hear what this node sends, through a locked filter."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: hears nothing before the filter stands
    try:
        if program is not None:
            _attach(sock, program)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setblocking(False)
        sock.bind((interface, ethertype))
    except OSError:
        sock.close()
        raise
    return sock


def open_raw_socket(interface: str, family: Family) -> socket.socket:
    """Open a raw socket (raw(7), protocol 112) that sends CARP by way of the kernel's own routes and neighbours.

    It receives nothing, but that it is there keeps the kernel from answering unicast adverts with "protocol
    unreachable", or with "unrecognized next header". Needs CAP_NET_RAW. Raises OSError.
    """
    sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW, IPPROTO_CARP)
    try:
        _attach(sock, _NOTHING_FILTER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if family == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def join(*, index: int, group: IPAddress) -> socket.socket:
    """Join a multicast group on the interface with this index for as long as the returned socket is open.

    The kernel then programs the NIC's filter and sends the IGMP or MLD report that snooping switches wait for (ip(7),
    IP_ADD_MEMBERSHIP; ipv6(7), IPV6_ADD_MEMBERSHIP). Raises OSError.
    """
    over_ipv4 = isinstance(group, IPv4Address)
    sock = socket.socket(socket.AF_INET if over_ipv4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        if over_ipv4:
            request = struct.pack("4s4si", group.packed, bytes(4), index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            request = struct.pack("16si", group.packed, index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    except OSError:
        sock.close()
        raise
    return sock


def multicast_mac(group: IPAddress) -> bytes:
    """Return the Ethernet address of a multicast group (RFC 1112, section 6.4; RFC 2464, section 7)."""
    if isinstance(group, IPv4Address):
        low = int(group) & 0x7FFFFF
        return bytes((0x01, 0x00, 0x5E)) + low.to_bytes(3, "big")
    return bytes((0x33, 0x33)) + group.packed[12:]


def receive(sock: socket.socket) -> Frame | None:
    """Return the next packet, or None if none waits or the interface is down. Raises OSError for anything else."""
    received = _receive(sock)
    if received is None:
        return None
    data, address = received
    return Frame(data[ETHERNET_HEADER:], address[2] != _PACKET_OTHERHOST)


def receive_ethernet(sock: socket.socket) -> bytes | None:
    """Return the next frame with its Ethernet header; None and errors as of ``receive``."""
    received = _receive(sock)
    return None if received is None else received[0]


def _receive(sock: socket.socket) -> tuple[bytes, tuple[str, int, int, int, bytes]] | None:
    try:
        return sock.recvfrom(_LARGEST)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in _INTERFACE_LOST:
            return None
        raise


def send_to(sock: socket.socket, packet: bytes, address: IPAddress) -> str | None:
    """Send one IP packet by a raw socket of its family; return None, or what went wrong in a few words.

    A link-local address is one of the socket's own interface.
    """
    return _try(lambda: sock.sendto(packet, (str(address), 0)))


def send(sock: socket.socket, frame: bytes) -> str | None:
    """Send one Ethernet frame; return None, or what went wrong (a full queue, a lost interface) in a few words."""
    return _try(lambda: sock.send(frame))


def _carp_filter(family: Family) -> Sequence[Instruction]:
    """Return classic BPF over an Ethernet frame: accept if the protocol is 112."""
    return (
        (0x30, 0, 0, _PROTOCOL_AT[family]),  # ldb [protocol]
        (0x15, 0, 1, IPPROTO_CARP),  # jeq #112, next, reject
        (0x06, 0, 0, 0x40000),  # ret accept
        (0x06, 0, 0, 0),  # ret reject
    )


def _attach(sock: socket.socket, instructions: Sequence[Instruction]) -> None:
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
