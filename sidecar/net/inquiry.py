"""Questions to the LAN about who has an address, and answers to them: ARP (RFC 826, 5227) and ND (RFC 4861). Pure.

A question in nobody's name is answered by whoever has the address, and moves no cache. A question to a neighbour in the
name of a VIP is answered to where the neighbour believes the VIP to be: if that is here, the way to it has been learnt.

Answers come from anybody: ``read_answer`` raises AnswerError for whatever is none, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from sidecar.protocol.packet import internet_checksum
from sidecar.protocol.types import HOP_LIMIT, IPAddress

_BROADCAST = b"\xff" * 6
_ETHERNET = 14
_ETH_P_ARP, _ETH_P_IPV6 = b"\x08\x06", b"\x86\xdd"
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_KIND = (1, 0x0800, 6, 4)
"""Ethernet, IPv4, and the lengths of their addresses."""
_REQUEST, _REPLY = 1, 2
_NOBODY = IPv4Address(0)
_NOBODY6 = IPv6Address(0)
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_SOURCE_MAC, _TARGET_MAC = 1, 2
"""Options of ND that hold a MAC."""
_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_ND = struct.Struct("!BBHI16s")
_ADDRESSES_IN_FILTER = 250
"""With more, the filter lets all answers pass: the kernel takes 4096 instructions, and each answer costs them."""

Instruction = tuple[int, int, int, int]


class AnswerError(Exception):
    """A frame that is no answer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Somebody at ``mac`` says that it has ``address``, to the holder of ``told`` at the MAC ``to``."""

    address: IPAddress
    mac: bytes
    told: IPAddress
    to: bytes


def question(*, mac: bytes, target: IPAddress, sender: IPAddress | None = None) -> bytes:
    """Return the Ethernet frame that asks who has ``target``, from ``mac``, in the name of ``sender`` or nobody's."""
    match target:
        case IPv4Address():
            name = sender if isinstance(sender, IPv4Address) else _NOBODY
            arp = _ARP.pack(*_ARP_KIND, _REQUEST, mac, name.packed, bytes(6), target.packed)
            return _BROADCAST + mac + _ETH_P_ARP + arp
        case IPv6Address():
            return _solicitation(mac, target, sender if isinstance(sender, IPv6Address) else _NOBODY6)


def _solicitation(mac: bytes, target: IPv6Address, sender: IPv6Address) -> bytes:
    group = bytes.fromhex("ff0200000000000000000001ff") + target.packed[13:]
    option = b"" if sender == _NOBODY6 else bytes((_SOURCE_MAC, 1)) + mac  # RFC 4861, 4.3
    length = _ND.size + len(option)
    pseudo = sender.packed + group + struct.pack("!IHBB", length, 0, 0, _ICMPV6)
    checksum = internet_checksum(pseudo + _ND.pack(_SOLICITATION, 0, 0, 0, target.packed) + option)
    header = _IPV6_HEADER.pack(6 << 28, length, _ICMPV6, HOP_LIMIT, sender.packed, group)
    body = _ND.pack(_SOLICITATION, 0, checksum, 0, target.packed) + option
    return b"\x33\x33" + group[12:] + mac + _ETH_P_IPV6 + header + body


def owner(frame: bytes, address: IPAddress) -> bytes | None:
    """Return the MAC of whoever says in ``frame``, be it an answer or not, that ``address`` is its own, else None."""
    match address:
        case IPv4Address():
            if len(frame) < _ETHERNET + _ARP.size or frame[12:14] != _ETH_P_ARP:
                return None
            _, _, _, _, _, sender, sender_address, _, _ = _ARP.unpack_from(frame, _ETHERNET)
            return sender if sender_address == address.packed else None
        case IPv6Address():
            body = frame[_ETHERNET + _IPV6_HEADER.size :]
            is_icmp = frame[12:14] == _ETH_P_IPV6 and frame[_ETHERNET + 6 : _ETHERNET + 7] == bytes([_ICMPV6])
            if not is_icmp or len(body) < _ND.size or body[0] != _ADVERTISEMENT or body[8:24] != address.packed:
                return None
            return frame[6:12]


def read_answer(frame: bytes) -> Answer:
    """Read an Ethernet frame: an ARP reply or a neighbour advertisement. Raises AnswerError."""
    to, ethertype, packet = frame[:6], frame[12:14], frame[_ETHERNET:]
    if ethertype == _ETH_P_ARP:
        return _read_reply(to, packet)
    if ethertype == _ETH_P_IPV6:
        return _read_advertisement(to, packet)
    raise AnswerError("neither ARP nor IPv6")


def _read_reply(to: bytes, packet: bytes) -> Answer:
    if len(packet) < _ARP.size:
        raise AnswerError("ARP that is cut short")
    *kind, operation, mac, address, _, told = _ARP.unpack_from(packet)
    if tuple(kind) != _ARP_KIND or operation != _REPLY:
        raise AnswerError("ARP, but no reply for IPv4 over Ethernet")
    return Answer(address=IPv4Address(address), mac=_checked(mac), told=IPv4Address(told), to=to)


def _read_advertisement(to: bytes, packet: bytes) -> Answer:
    if len(packet) < _IPV6_HEADER.size + _ND.size:
        raise AnswerError("IPv6 that is cut short")
    version, length, following, hops, source, told = _IPV6_HEADER.unpack_from(packet)
    body = packet[_IPV6_HEADER.size : _IPV6_HEADER.size + length]
    if version >> 28 != 6 or following != _ICMPV6 or hops != HOP_LIMIT or len(body) != length or length < _ND.size:
        raise AnswerError("IPv6, but no ND of this link")
    kind, code, _, _, target = _ND.unpack_from(body)
    pseudo = source + told + struct.pack("!IHBB", length, 0, 0, _ICMPV6)
    if kind != _ADVERTISEMENT or code != 0 or internet_checksum(pseudo + body) != 0:
        raise AnswerError("ICMPv6, but no sound neighbour advertisement")
    mac = _target_mac(body[_ND.size :])
    return Answer(address=IPv6Address(target), mac=_checked(mac), told=IPv6Address(told), to=to)


def _target_mac(options: bytes) -> bytes:
    at = 0
    while at + 8 <= len(options) and options[at + 1]:  # RFC 4861, 4.6: the length is in units of 8 bytes
        if options[at] == _TARGET_MAC:
            return options[at + 2 : at + 8]
        at += 8 * options[at + 1]
    raise AnswerError("a neighbour advertisement without a MAC")


def _checked(mac: bytes) -> bytes:
    if mac[0] & 1 or not any(mac):
        raise AnswerError("an answer from no single host's MAC")
    return mac


def answers_filter(version: Literal[4, 6], addresses: Collection[IPAddress]) -> list[Instruction]:
    """Return classic BPF over an Ethernet frame that lets answers from or to one of ``addresses`` pass, little else.

    Of IPv6 addresses it compares the last four bytes. It saves work; ``read_answer`` is what counts.
    """
    reject, accept = (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000)  # ret
    if version == 4:
        program = [(0x28, 0, 0, 12), (0x15, 1, 0, 0x0806), reject, (0x28, 0, 0, 20), (0x15, 1, 0, _REPLY), reject]
        places = (28, 38)  # sender, target
    else:
        program = [(0x28, 0, 0, 12), (0x15, 1, 0, 0x86DD), reject, (0x30, 0, 0, 20), (0x15, 1, 0, _ICMPV6), reject]
        program += [(0x30, 0, 0, 54), (0x15, 1, 0, _ADVERTISEMENT), reject]
        places = (74, 50)  # target, destination
    wanted = sorted({int(address) & 0xFFFFFFFF for address in addresses if address.version == version})
    if len(wanted) > _ADDRESSES_IN_FILTER:
        return [*program, accept]
    for place in places:
        program.append((0x20, 0, 0, place))  # ld
        for each in wanted:
            program += [(0x15, 0, 1, each), accept]  # jeq
    return [*program, reject]
