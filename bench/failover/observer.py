"""The client's wire: probes every millisecond, what is heard of the VIP's MAC, and who answered. A process of its own.

Per IP version there are two kinds of probes, echo requests both. One goes where a client would send it: to the MAC that
was announced last for the VIP (by ARP or a neighbour advertisement), through a bridge that learns by what it forwards.
The other one, every 5 ms, goes to all nodes: it tells how many of them answer. The TTL tells who answered.

It prints a line with IP version and TTL (0: nobody) whenever another one answers the first kind, and writes all that it
has seen to a file when its standard input ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import msgspec

from sidecar.demo.probe import ETH_P_ARP, ETH_P_IPV6, echo_frame, read_echo_reply

ALL_EVERY = 5
"""How many of the client's probes there are to one that goes to all."""
_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SILENT_AFTER = 0.05
_TO_ALL = 1 << 31
_NEIGHBOUR_ADVERTISEMENT = 136
_EVERYONE = {4: b"\xff" * 6, 6: b"\x33\x33\x00\x00\x00\x01"}


class Seen(msgspec.Struct, kw_only=True):
    """What was seen over one IP version: when each probe was sent (monotonic), and the answers as (probe, TTL)."""

    version: int
    client_sent: list[float] = []
    client_answers: list[tuple[int, int]] = []
    all_sent: list[float] = []
    all_answers: list[tuple[int, int]] = []


@dataclass(slots=True, kw_only=True)
class Lane:
    """The probes over one IP version."""

    source: bytes
    target: bytes
    mac: bytes
    seen: Seen
    believed: bytes | None = None
    """The VIP's MAC, as announced last."""
    told: int = 0
    """The TTL that was printed last."""
    answered: float = 0.0
    last: int = 0
    """The newest of the client's probes that was answered."""
    _frames: dict[bytes, tuple[bytearray, int]] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return self.seen.version

    def client_probe(self, now: float) -> bytearray | None:
        """The next frame of the first kind, or None while nobody has announced the VIP."""
        number = len(self.seen.client_sent)
        self.seen.client_sent.append(now)
        return None if self.believed is None else self._frame(self.believed, number)

    def all_probe(self, now: float) -> bytearray:
        """The next frame of the second kind."""
        number = len(self.seen.all_sent)
        self.seen.all_sent.append(now)
        return self._frame(_EVERYONE[self.version], number | _TO_ALL)

    def heard(self, frame: bytes, now: float) -> None:
        """Take in a frame: an announcement, an answer, or something else."""
        if announced := announcement(frame, self.target):
            self.believed = announced
        elif read := read_echo_reply(frame, self.target):
            number, ttl = read
            if number & _TO_ALL:
                self.seen.all_answers.append((number ^ _TO_ALL, ttl))
            else:
                self.seen.client_answers.append(read)
                self.answered = now
                if number >= self.last:
                    self.last = number
                    self._tell(ttl)

    def silence(self, now: float) -> None:
        """Tell where nobody has answered for a while."""
        if now - self.answered > _SILENT_AFTER:
            self._tell(0)

    def _tell(self, ttl: int) -> None:
        if ttl != self.told:
            self.told = ttl
            print(self.version, ttl, flush=True)

    def _frame(self, to: bytes, number: int) -> bytearray:
        """A frame is made once for each MAC; its number and what that adds to the checksum are put in each time."""
        if to not in self._frames:
            frame = bytearray(echo_frame(self.source, self.target, number=0, ethernet=to + self.mac))
            self._frames[to] = frame, int.from_bytes(frame[-6:-4], "big")
        frame, checksum = self._frames[to]
        total = (~checksum & 0xFFFF) + (number >> 16) + (number & 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!HI", frame, len(frame) - 6, ~total & 0xFFFF, number)
        return frame


def announcement(frame: bytes, vip: bytes) -> bytes | None:
    """Return the MAC that a frame gives for a VIP, as a client's kernel reads it; None where it gives none.

    An ARP frame's sender (RFC 826), or a neighbour advertisement's target with the override flag (RFC 4861, 7.2.5).
    """
    ethertype = int.from_bytes(frame[12:14], "big")
    if len(vip) == 4:
        return frame[22:28] if ethertype == ETH_P_ARP and frame[28:32] == vip else None
    if ethertype != ETH_P_IPV6 or frame[20:21] != b"\x3a" or frame[54:55] != bytes([_NEIGHBOUR_ADVERTISEMENT]):
        return None
    override, option = frame[58] & 0x20, frame[78:80]
    return frame[80:86] if override and frame[62:78] == vip and option == b"\x02\x01" else None


def observe(sock: socket.socket, lanes: list[Lane], *, interval: float) -> None:
    """Probe until standard input ends."""
    due, tick = time.monotonic(), 0
    while True:
        now = time.monotonic()
        if now >= due:
            late = int((now - due) / interval)  # turns that were missed stay missed
            due += interval * (1 + late)
            tick += 1 + late
            _ask(sock, lanes, now, to_all=tick % ALL_EVERY)
        _drain(sock, lanes)
        ready, _, _ = select.select([sock, sys.stdin], [], [], max(0.0, due - time.monotonic()))
        if sys.stdin in ready:
            return


def _ask(sock: socket.socket, lanes: list[Lane], now: float, *, to_all: int) -> None:
    for number, lane in enumerate(lanes):
        frames = [lane.client_probe(now), lane.all_probe(now) if to_all == number else None]
        for frame in frames:
            if frame is not None:
                with contextlib.suppress(OSError):  # a full queue: a probe that nobody answers
                    sock.send(frame)
        lane.silence(now)


def _drain(sock: socket.socket, lanes: list[Lane]) -> None:
    now = time.monotonic()
    while True:
        try:
            frame = sock.recv(2048)
        except BlockingIOError:
            return
        except OSError:  # a packet socket tells that its link went down by failing once
            continue
        for lane in lanes:
            lane.heard(frame, now)


def _socket(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.bind((interface, _ETH_P_ALL))
    sock.setblocking(False)
    return sock


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.failover.observer")
    parser.add_argument("--interface", default="eth0")
    parser.add_argument("--mac", required=True, help="ours")
    parser.add_argument("--probe", action="append", required=True, help="source,VIP: addresses of one IP version")
    parser.add_argument("--interval", type=float, default=0.001, help="seconds")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # it has to see the others' lateness, not its own
    lanes = []
    for probe in arguments.probe:
        source, vip = map(ip_address, probe.split(","))
        seen = Seen(version=vip.version)
        mac = bytes.fromhex(arguments.mac.replace(":", ""))
        lanes.append(Lane(source=source.packed, target=vip.packed, mac=mac, seen=seen))
    with _socket(arguments.interface) as sock:
        print("ready", flush=True)
        observe(sock, lanes, interval=arguments.interval)
    arguments.output.write_bytes(msgspec.json.encode([lane.seen for lane in lanes]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
