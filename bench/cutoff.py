"""How exactly the kernel cuts a VIP off when its lease of milliseconds ends, and what a renewal costs.

Run as root: ``python -m bench.cutoff``. Everything happens in namespaces of its own. A client asks by ARP who has the
VIP, as fast as it can; the cut-off lies between its last question that is answered and its first that is not.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from sidecar.demo.lan import INTERFACE, Lan, Node, inside
from sidecar.net.cutoff import Cutoff, tick_ms
from sidecar.protocol.types import IPAddress

_VIP = IPv4Address("10.77.0.100")
_LEASES = (12, 50, 250)
_ASKERS = [IPv4Address("10.77.0.128") + number for number in range(64)]
_ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ETH_P_ARP, _REQUEST = 0x0806, 1
_FROM = 38
"""Where an ARP frame names whom it is for."""
_EXACT = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """Milliseconds from the end that a lease was given to the cut-off: negative is early. ``lease`` is in ms too."""

    lease: int
    least: float
    median: float
    most: float


def cut_offs(tries: int, leases: Sequence[int] = _LEASES) -> list[CutOff]:
    """Let leases of each length end ``tries`` times."""
    with Lan(nodes=1, prefix="carpbench") as lan:
        [node] = lan.nodes
        node.run(["ip", "address", "add", f"{_VIP}/32", "dev", INTERFACE])
        with (
            lan.open_socket(lan.client, _asker) as asker,
            _cutoff(node, [_VIP]) as cutoff,
        ):
            return [_spread(lease, [_late(asker, cutoff, lan.client, lease) for _ in range(tries)]) for lease in leases]


def costs(rounds: int) -> dict[str, float]:
    """Return the median microseconds of one renewal by what it renews."""
    one, two = [_VIP], [_VIP, IPv6Address("fd77::100")]
    many: list[IPAddress] = [ip_address(f"10.78.0.{number}") for number in range(1, 256)]
    with Lan(nodes=1, prefix="carpbench") as lan, _cutoff(lan.nodes[0], [*two, *many]) as cutoff:
        return {
            "one IPv4 address": _median(lambda: cutoff.renew(one, 1000), rounds),
            "one IPv4 and one IPv6 address": _median(lambda: cutoff.renew(two, 1000), rounds),
            "255 IPv4 addresses of one group": _median(lambda: cutoff.renew(many, 1000), rounds // 10),
            "255 groups of one IPv4 address": _median(
                lambda: [cutoff.renew([vip], 1000) for vip in many], rounds // 100
            ),
        }


def _cutoff(node: Node, vips: Sequence[IPAddress]) -> Cutoff:
    def make() -> Cutoff:
        cutoff = Cutoff("bench")
        cutoff.install(vips)
        return cutoff

    return inside(node.netns, make)


def _asker() -> socket.socket:
    asker = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP))
    asker.bind((INTERFACE, _ETH_P_ARP))
    asker.setblocking(False)
    return asker


def _late(asker: socket.socket, cutoff: Cutoff, client: Node, lease: int) -> float:
    """Return how many ms after the end of one lease the VIP fell silent, exact to half a ms.

    Where the machine was away at a moment that counts, the try counts for nothing.
    """
    mac = bytes.fromhex(client.mac.replace(":", ""))
    questions = [
        _ARP.pack(b"\xff" * 6, mac, _ETH_P_ARP, 1, 0x0800, 6, 4, _REQUEST, mac, who.packed, bytes(6), _VIP.packed)
        for who in _ASKERS
    ]
    while True:
        before = time.monotonic()
        cutoff.renew([_VIP], lease)
        after = time.monotonic()
        end = before + lease / 1000
        asked: list[float] = []
        last = -1
        while time.monotonic() < end + 0.02:
            asked.append(time.monotonic())
            asker.send(questions[(len(asked) - 1) % len(_ASKERS)])
            time.sleep(0.0001)
            for who in _answered(asker):
                back = (len(asked) - 1 - _ASKERS.index(who)) % len(_ASKERS)
                last = max(last, len(asked) - 1 - back)
        if not 0 <= last < len(asked) - 1:
            raise RuntimeError(f"the VIP was {'never' if last < 0 else 'always'} answered for: is the LAN whole?")
        if after - before < _EXACT and asked[last + 1] - asked[last] < _EXACT:
            return ((asked[last] + asked[last + 1]) / 2 - end) * 1000


def _answered(asker: socket.socket) -> list[IPv4Address]:
    found = []
    while True:
        try:
            frame = asker.recv(2048)
        except BlockingIOError:
            return found
        if frame[28:32] == _VIP.packed:
            found.append(IPv4Address(frame[_FROM : _FROM + 4]))


def _spread(lease: int, late: Sequence[float]) -> CutOff:
    return CutOff(lease=lease, least=min(late), median=statistics.median(late), most=max(late))


def _median(action: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        before = time.perf_counter()
        action()
        taken.append(time.perf_counter() - before)
    return statistics.median(taken) * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cutoff", description="the cut-off's accuracy and cost")
    parser.add_argument("--tries", type=int, default=50, help="how often each lease ends (default: 50)")
    tries = parser.parse_args().tries
    print(f"tick of this kernel: {tick_ms():g} ms\n\nlease     cut off after its end (least, median, most)")
    for each in cut_offs(tries):
        print(f"{each.lease:5} ms  {each.least:+7.2f} {each.median:+7.2f} {each.most:+7.2f} ms")
    print("\nrenewing (median)")
    for what, microseconds in costs(1000).items():
        print(f"{what:35} {microseconds:8.1f} us")


if __name__ == "__main__":
    main()
