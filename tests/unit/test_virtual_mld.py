"""The table that keeps a virtual MAC silent about multicast, as the kernel has it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable

import pytest

from sidecar.net.own_table import OwnTableError
from sidecar.net.virtual_mld import VirtualMld
from tests.fakes.namespace import cable, in_new_network

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]


def ruleset() -> str:
    return subprocess.run(["nft", "-n", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def with_table(scene: Callable[[VirtualMld], None]) -> None:
    def play() -> None:
        cable()
        scene(VirtualMld("near-42"))

    in_new_network(play)


def test_it_drops_what_leaves_by_that_interface_as_mld_or_router_solicitation() -> None:
    def scene(mld: VirtualMld) -> None:
        mld.hold(index=socket.if_nametoindex("near"))
        once = ruleset()
        assert "table inet carp-mld-near-42" in once
        assert 'oif "near" icmpv6 type 130-133 drop' in once
        assert 'oif "near" icmpv6 type 143 drop' in once
        mld.hold(index=socket.if_nametoindex("near"))
        assert ruleset() == once
        mld.remove()

    with_table(scene)


def test_it_leaves_nothing_and_need_not_be_there() -> None:
    def scene(mld: VirtualMld) -> None:
        mld.remove()
        mld.hold(index=1)
        mld.remove()
        assert ruleset() == ""

    with_table(scene)


def test_what_the_kernel_refuses_is_named() -> None:
    def scene(_: VirtualMld) -> None:
        too_long = VirtualMld("x" * 300)
        with pytest.raises(OwnTableError, match=r"^nftables table carp-mld-x+: refused the table: "):
            too_long.hold(index=1)
        with pytest.raises(OwnTableError):
            too_long.remove()

    with_table(scene)
