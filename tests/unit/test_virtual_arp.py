"""The table that keeps a NIC silent about VIPs at a virtual MAC, as the kernel has it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from sidecar.net.own_table import OwnTableError
from sidecar.net.virtual_arp import VirtualArp
from tests.fakes.namespace import cable, in_new_network

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

VIPS = [IPv4Address("10.0.0.200"), IPv4Address("10.0.0.201")]


def ruleset() -> str:
    return subprocess.run(["nft", "-s", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def with_table(scene: Callable[[VirtualArp], None]) -> None:
    def play() -> None:
        cable()
        index = socket.if_nametoindex("near")
        scene(VirtualArp("near-42", index=index, own=IPv4Address("10.0.0.1"), vips=VIPS))

    in_new_network(play)


def test_it_drops_the_nics_answers_and_asks_in_the_nodes_name() -> None:
    def scene(arp: VirtualArp) -> None:
        arp.hold()
        once = ruleset()
        assert 'oif "near" arp saddr ip @vips arp operation reply drop' in once
        assert 'oif "near" arp saddr ip @vips arp saddr ip set 10.0.0.1' in once
        assert "10.0.0.200 timeout 1m, 10.0.0.201 timeout 1m" in once.replace("\n\t\t\t     ", " ")
        arp.hold()
        assert ruleset() == once
        arp.remove()

    with_table(scene)


def test_it_leaves_nothing_and_need_not_be_there() -> None:
    def scene(arp: VirtualArp) -> None:
        arp.remove()
        arp.hold()
        arp.remove()
        assert ruleset() == ""

    with_table(scene)


def test_what_the_kernel_refuses_is_named() -> None:
    def scene(_: VirtualArp) -> None:
        too_long = VirtualArp("x" * 300, index=1, own=VIPS[0], vips=VIPS)
        with pytest.raises(OwnTableError, match=r"^nftables table carp-mac-x+: refused the table: "):
            too_long.hold()
        with pytest.raises(OwnTableError):
            too_long.remove()

    with_table(scene)
