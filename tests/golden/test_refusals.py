"""What is said of each packet that is refused: sentences that end up in logs. Rewritten as the conversations are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from sidecar.protocol.packet import PacketError, check, parse, parse_ipv4, parse_ipv6, unpack
from tests.fakes.captures import ipv6
from tests.fakes.wire import advert, ipv4

TEXT = Path(__file__).parent / "refusals.txt"
V4, V6 = ipv4(advert()), ipv6(advert())


def changed(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes((value,)) + packet[at + 1 :]


def headed(data: bytes) -> None:
    check(unpack(data), data)


REFUSED: Mapping[str, tuple[Callable[[bytes], object], bytes]] = MappingProxyType(
    {
        "nothing": (parse, b""),
        "of another IP version": (parse, changed(V4, 0, 0x55)),
        "IPv4, nearly nothing": (parse_ipv4, V4[:19]),
        "IPv4, told to be IPv6": (parse_ipv4, changed(V4, 0, 0x65)),
        "IPv4, with too short a header": (parse_ipv4, changed(V4, 0, 0x44)),
        "IPv4, shorter than its header": (parse_ipv4, changed(V4, 3, 19)),
        "IPv4, of another protocol": (parse_ipv4, ipv4(advert(), protocol=17)),
        "IPv4, cut": (parse_ipv4, V4[:-1]),
        "IPv4, damaged": (parse_ipv4, changed(V4, 1, 0x11)),
        "IPv4, a fragment": (parse_ipv4, ipv4(advert(), fragment=0x2000)),
        "IPv6, nearly nothing": (parse_ipv6, V6[:39]),
        "IPv6, told to be IPv4": (parse_ipv6, changed(V6, 0, 0x40)),
        "IPv6, of another protocol": (parse_ipv6, ipv6(advert(), next_header=58)),
        "IPv6, cut": (parse_ipv6, V6[:-1]),
        "CARP, cut": (unpack, advert()[:35]),
        "CARP, of another version": (headed, advert(first=0x31)),
        "CARP, damaged": (headed, changed(advert(), 20, 1)),
    }
)


def test_what_is_said(request: pytest.FixtureRequest) -> None:
    told = "# What is said of a packet that is refused, and the name under which it is counted.\n\n"
    for name, (read, data) in REFUSED.items():
        with pytest.raises(PacketError) as refused:
            read(data)
        told += f"{name:30} {refused.value.reason:14} {refused.value}\n"
    if request.config.getoption("--rewrite-golden"):
        TEXT.write_text(told)
    assert TEXT.read_text().splitlines() == told.splitlines()
