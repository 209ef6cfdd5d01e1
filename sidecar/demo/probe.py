"""Probers: they ask for an address every few milliseconds and note who answers.

``arp_prober`` asks the LAN itself, past every cache, so it sees each node that answers, also two at once.
``echo_prober`` goes through the client's kernel and its neighbour cache: what it misses is what a user would miss.
``all_prober`` sends each echo request to every node: it sees all that would answer, whatever MAC they answer with.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Protocol, Self

from sidecar.demo.answers import Answer, Answers
from sidecar.demo.lan import INTERFACE, SUBNET
from sidecar.demo.sniffer import SO_TIMESTAMPNS, receive
from sidecar.protocol.packet import internet_checksum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.demo.lan import Lan

_ARP_ETHERNET_IPV4 = b"\x00\x01\x08\x00\x06\x04"
_ARP_REQUEST, _ARP_REPLY = b"\x00\x01", b"\x00\x02"
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_ECHO_REQUEST6, _ECHO_REPLY6 = 128, 129
ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
_ETHERNET = 14
_IPV4, _IPV6 = struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!IHBB16s16s")
_SLOWEST_TURN = 0.1  # seconds until a stop is noticed


class Question(Protocol):
    """How to ask and how to read the answers. ``period`` is after how many probes their numbers repeat on the wire."""

    @property
    def period(self) -> int: ...  # noqa: D102

    def ask(self, number: int) -> bytes:
        """Return the packet of a probe; ``number`` is below ``period``."""
        ...

    def read(self, packet: bytes) -> tuple[int, str] | None:
        """Return the number and the node of an answer, or None where the packet is something else."""
        ...


@dataclass(frozen=True, slots=True)
class ArpQuestion:
    """ARP requests for ``target`` (RFC 826), the replies told apart by the MACs in ``nodes`` (MAC bytes to name).

    A reply repeats nothing of its request but the asker, so each probe asks as the next of ``askers``. They all have
    the same ``mac``, so that the nodes' caches know them soon and don't change with each probe.
    """

    target: bytes
    mac: bytes
    askers: tuple[bytes, ...]
    nodes: Mapping[bytes, str]

    @property
    def period(self) -> int:
        """How many askers there are."""
        return len(self.askers)

    def ask(self, number: int) -> bytes:
        """Return an Ethernet broadcast frame, of the least length of 60 bytes."""
        arp = _ARP_ETHERNET_IPV4 + _ARP_REQUEST + self.mac + self.askers[number] + bytes(6) + self.target
        return (b"\xff" * 6 + self.mac + ETH_P_ARP.to_bytes(2, "big") + arp).ljust(60, b"\0")

    def read(self, packet: bytes) -> tuple[int, str] | None:
        """Read an Ethernet frame."""
        if len(packet) < 42 or packet[14:22] != _ARP_ETHERNET_IPV4 + _ARP_REPLY or packet[28:32] != self.target:
            return None
        mac, asker = packet[22:28], packet[38:42]
        if asker not in self.askers:
            return None
        return self.askers.index(asker), self.nodes.get(mac, mac.hex(":"))


@dataclass(frozen=True, slots=True)
class EchoQuestion:
    """ICMP echo requests (RFC 792), the replies told apart by the TTLs in ``nodes`` (TTL to name)."""

    target: bytes
    identifier: int
    nodes: Mapping[int, str]

    @property
    def period(self) -> int:
        """How many sequence numbers there are."""
        return 1 << 16

    def ask(self, number: int) -> bytes:
        """Return an ICMP message; the kernel adds the IP header."""
        message = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, self.identifier, number)
        return message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]

    def read(self, packet: bytes) -> tuple[int, str] | None:
        """Read an IPv4 packet."""
        header = (packet[0] & 0x0F) * 4
        if len(packet) < header + 8 or packet[12:16] != self.target:
            return None
        kind, _, _, identifier, number = struct.unpack_from("!BBHHH", packet, header)
        if (kind, identifier) != (_ECHO_REPLY, self.identifier):
            return None
        return number, self.nodes.get(packet[8], f"ttl {packet[8]}")


@dataclass(frozen=True, slots=True)
class AllQuestion:
    """Echo requests for ``target`` in frames that reach every node (RFC 792, 4443); whoever has the address answers.

    The replies are told apart by the TTLs in ``nodes``. Each probe has a number of its own, so that an answer which is
    late counts for none but its own.
    """

    target: bytes
    source: bytes
    mac: bytes
    nodes: Mapping[int, str]

    @property
    def period(self) -> int:
        """How many pairs of identifier and sequence number there are."""
        return 1 << 32

    def ask(self, number: int) -> bytes:
        """Return an Ethernet frame to all."""
        return echo_frame(self.source, self.target, number=number, ethernet=_everyone(self.target) + self.mac)

    def read(self, packet: bytes) -> tuple[int, str] | None:
        """Read an Ethernet frame."""
        read = read_echo_reply(packet, self.target)
        return read and (read[0], self.nodes.get(read[1], f"ttl {read[1]}"))


class Prober:
    """Asks every ``interval`` seconds in a thread of its own, from ``with`` to its end; owns ``sock``."""

    def __init__(self, sock: socket.socket, question: Question, *, address: tuple[str, int], interval: float) -> None:
        self._sock = sock
        self._question = question
        self._address = address
        self._interval = interval
        self._sent: list[float] = []
        self._received: list[Answer] = []
        self._drained_at = -math.inf
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def __enter__(self) -> Self:
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._sock.close()

    def answers(self) -> Answers:
        """Return all that was seen until now, also after the end."""
        with self._lock:
            return Answers(
                interval=self._interval,
                sent=tuple(self._sent),
                received=tuple(self._received),
                taken_at=self._drained_at,
            )

    def latest(self) -> Answer | None:
        """Return the answer that was read last, or None before the first one."""
        with self._lock:
            return self._received[-1] if self._received else None

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= due:
                self._send(now)
                # Turns that were missed stay missed: a burst would say nothing about the time that is past.
                due += self._interval * (1 + math.floor((now - due) / self._interval))
            wait = min(_SLOWEST_TURN, max(0.0, due - time.monotonic()))
            select.select([self._sock], [], [], wait)
            self._receive()

    def _send(self, now: float) -> None:
        with self._lock:
            number = len(self._sent) % self._question.period
            self._sent.append(now)
        with contextlib.suppress(OSError):  # no neighbour, a full queue, no link: a probe that nobody answers
            self._sock.sendto(self._question.ask(number), self._address)

    def _receive(self) -> None:
        """Take in everything that has arrived."""
        now = time.monotonic()
        answers: list[Answer] = []
        while True:
            try:
                packet, stamp = receive(self._sock)
            except BlockingIOError:
                break
            except OSError:  # a packet socket tells that its link went down by failing once
                continue
            if (read := self._question.read(packet)) and (probe := self._latest(read[0])) >= 0:
                answers.append(Answer(stamp / 1e9 - time.time() + time.monotonic(), probe, read[1]))
        with self._lock:
            self._received += answers
            self._drained_at = now

    def _latest(self, number: int) -> int:
        """Return the latest probe that had this number on the wire; below 0 where none had."""
        last = len(self._sent) - 1
        return last - (last - number) % self._question.period


def arp_prober(lan: Lan, target: str, *, interval: float = 0.005) -> Prober:
    """Return a prober that asks from the client's wire who has ``target``."""
    question = ArpQuestion(
        target=IPv4Address(target).packed,
        mac=_mac(lan.client.mac),
        askers=tuple(IPv4Address(f"{SUBNET}.{number}").packed for number in range(128, 192)),
        nodes={_mac(node.mac): node.name for node in lan.nodes},
    )
    return Prober(
        lan.client.open_socket(lambda: packet_socket(ETH_P_ARP)),
        question,
        address=(INTERFACE, ETH_P_ARP),
        interval=interval,
    )


def echo_prober(lan: Lan, target: str, *, interval: float = 0.005) -> Prober:
    """Return a prober that pings ``target`` through the client's kernel."""
    question = EchoQuestion(
        target=IPv4Address(target).packed,
        identifier=int.from_bytes(os.urandom(2), "big"),
        nodes={node.ttl: node.name for node in lan.nodes},
    )
    return Prober(lan.client.open_socket(_echo_socket), question, address=(target, 0), interval=interval)


def all_prober(lan: Lan, target: str, *, interval: float = 0.001) -> Prober:
    """Return a prober that asks every node on the LAN whether it answers for ``target``.

    The nodes are told for good where the client is, so that no answer waits for a question of their own.
    """
    address = ip_address(target)
    source = lan.client.address if address.version == 4 else lan.client.address6
    for node in lan.nodes:
        node.run(["ip", "neighbour", "replace", source, "lladdr", lan.client.mac, "dev", INTERFACE, "nud", "permanent"])
    question = AllQuestion(
        target=address.packed,
        source=ip_address(source).packed,
        mac=_mac(lan.client.mac),
        nodes={node.ttl: node.name for node in lan.nodes},
    )
    protocol = ETH_P_IP if address.version == 4 else ETH_P_IPV6
    sock = lan.client.open_socket(lambda: packet_socket(protocol))
    return Prober(sock, question, address=(INTERFACE, protocol), interval=interval)


def echo_frame(source: bytes, target: bytes, *, number: int, ethernet: bytes) -> bytes:
    """Return the Ethernet frame of an echo request; ``number`` is its identifier and sequence number."""
    kind = _ECHO_REQUEST if len(target) == 4 else _ECHO_REQUEST6
    message = struct.pack("!BBHI", kind, 0, 0, number)
    if len(target) == 4:
        length = _IPV4.size + len(message)
        header = _IPV4.pack(0x45, 0, length, 0, 0x4000, 64, socket.IPPROTO_ICMP, 0, source, target)
        header = header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:]
        covered, protocol = message, ETH_P_IP
    else:
        header = _IPV6.pack(0x60000000, len(message), socket.IPPROTO_ICMPV6, 64, source, target)
        covered = source + target + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6) + message
        protocol = ETH_P_IPV6
    checksum = internet_checksum(covered).to_bytes(2, "big")
    return b"".join((ethernet, protocol.to_bytes(2, "big"), header, message[:2], checksum, message[4:]))


def read_echo_reply(frame: bytes, target: bytes) -> tuple[int, int] | None:
    """Return the number and the TTL of an echo reply that ``target`` sent, or None where the frame is another."""
    if len(target) == 4:
        start, kind = _ETHERNET + _IPV4.size, _ECHO_REPLY
        ours = (
            frame[_ETHERNET : _ETHERNET + 1] == b"\x45" and frame[23] == socket.IPPROTO_ICMP and frame[26:30] == target
        )
        ttl = 22
    else:
        start, kind = _ETHERNET + _IPV6.size, _ECHO_REPLY6
        ours = frame[20:21] == bytes([socket.IPPROTO_ICMPV6]) and frame[22:38] == target
        ttl = 21
    if not ours or len(frame) < start + 8 or frame[start] != kind:
        return None
    return int.from_bytes(frame[start + 4 : start + 8], "big"), frame[ttl]


def _everyone(target: bytes) -> bytes:
    """The MAC of all hosts of that IP version (RFC 2464, section 7)."""
    return b"\xff" * 6 if len(target) == 4 else b"\x33\x33\x00\x00\x00\x01"


def packet_socket(protocol: int) -> socket.socket:
    """Return a packet socket on the interface that sees the frames of one EtherType."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    sock.bind((INTERFACE, protocol))
    return sock


def _echo_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
