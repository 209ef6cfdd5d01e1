"""The default gateway, as the kernel's tables have it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from sidecar.agent import gateway
from sidecar.agent.gateway import default_gateway, is_resolved
from sidecar.agent.health import Ill, Well
from sidecar.agent.probes import answer

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ARP = "IP address       HW type     Flags       HW address            Mask     Device\n"


def address(*numbers: int) -> str:
    """Return an address as ``/proc/net/route`` has it: as it lies in memory."""
    return f"{int.from_bytes(bytes(numbers), sys.byteorder):08X}"


def route(interface: str, gateway: str, *, flags: str = "0003", metric: int = 0, to: str = "00000000") -> str:
    mask = "00000000" if to == "00000000" else "00FFFFFF"
    return f"{interface}\t{to}\t{gateway}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def test_the_default_route_of_the_interface_counts_and_of_several_that_of_the_lowest_metric() -> None:
    table = (
        HEAD
        + route("eth1", address(192, 168, 1, 1))
        + route("eth0", address(10, 0, 0, 2), metric=200)
        + route("eth0", address(10, 0, 0, 1), metric=100)
        + route("eth0", address(10, 9, 9, 9), to=address(10, 1, 0, 0))
    )
    assert default_gateway(table, "eth0") == "10.0.0.1"
    assert default_gateway(table, "eth1") == "192.168.1.1"
    assert default_gateway(table, "eth2") is None


@pytest.mark.parametrize(
    "table",
    ["", HEAD, HEAD + route("eth0", "00000000", flags="0001"), HEAD + route("eth0", address(1, 2, 3, 4), flags="0002")],
)
def test_a_route_without_a_gateway_or_one_that_is_down_is_none(table: str) -> None:
    assert default_gateway(table, "eth0") is None


@pytest.mark.parametrize(("flags", "resolved"), [("0x2", True), ("0x6", True), ("0x0", False)])
def test_a_complete_entry_is_resolved(flags: str, resolved: bool) -> None:
    table = ARP + f"10.0.0.1         0x1         {flags}         02:00:00:00:00:01     *        eth0\n"
    assert is_resolved(table, "10.0.0.1", "eth0") is resolved
    assert not is_resolved(table, "10.0.0.1", "eth1")
    assert not is_resolved(table, "10.0.0.2", "eth0")


def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, routes: str, arp: str) -> object:
    (tmp_path / "route").write_text(routes)
    (tmp_path / "arp").write_text(arp)
    monkeypatch.setattr(gateway, "ROUTES", tmp_path / "route")
    monkeypatch.setattr(gateway, "NEIGHBOURS", tmp_path / "arp")
    return asyncio.run(
        answer(lambda: gateway.ask("lo"), timeout=0.1, clock=lambda: 0.0)
    )  # whatever else the machine does


def test_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = HEAD + route("lo", address(127, 0, 0, 9))
    known = ARP + "127.0.0.9  0x1  0x2  02:00:00:00:00:01  *  lo\n"
    assert ask(tmp_path, monkeypatch, routes=routes, arp=known) == Well()
    assert ask(tmp_path, monkeypatch, routes=routes, arp=ARP) == Ill("did not answer within 0.1 s")
    assert ask(tmp_path, monkeypatch, routes=HEAD, arp=known) == Ill(
        "is not known: there is no IPv4 default route by that interface"
    )
