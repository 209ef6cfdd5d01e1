"""The macvlan that bears a virtual MAC: made, shown, hidden, adopted, removed; what is not ours is left alone."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.net.virtual_mac import ALIAS, VirtualMac, VirtualMacError, leftovers
from sidecar.protocol.types import virtual_mac
from tests.fakes.namespace import cable, in_new_network, ip

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]


def cabled(scene: Callable[[int], None]) -> None:
    def play() -> None:
        cable()
        scene(socket.if_nametoindex("near"))

    in_new_network(play)


def link(name: str) -> dict[str, Any]:
    (found,) = json.loads(ip(f"-d -j link show {name}"))
    return dict(found)


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def setting(name: str) -> str:
    return subprocess.run(["sysctl", "-n", name], check=True, capture_output=True, text=True).stdout.strip()


def test_it_is_made_down_shown_hidden_and_removed() -> None:
    def scene(nic: int) -> None:
        before = names()
        mac = VirtualMac(nic=nic, vhid=42)
        assert not mac.stands
        mac.make()
        assert mac.stands
        made = link("carp42")
        assert (made["address"], made["link"], made["ifalias"]) == ("00:00:5e:00:01:2a", "near", ALIAS)
        assert made["linkinfo"]["info_data"]["mode"] == "bridge"
        assert made["inet6_addr_gen_mode"] == "none"
        assert "UP" not in made["flags"]
        for up, news in ((True, True), (True, False), (False, True)):
            assert mac.set_up(up=up) is news
            assert (("UP" in link("carp42")["flags"]), mac.is_up) == (up, up)
        ip("link set carp42 up")  # whoever has set it so, what counts is how it is
        assert (mac.is_up, mac.set_up(up=False), mac.is_up) == (True, True, False)
        assert [setting(f"net.ipv4.conf.carp42.{each}") for each in ("rp_filter", "arp_ignore")] == ["2", "1"]
        assert [setting(f"net.ipv4.conf.near.{each}") for each in ("rp_filter", "arp_ignore")] == [
            setting(f"net.ipv4.conf.default.{each}") for each in ("rp_filter", "arp_ignore")
        ]
        mac.remove()
        assert (mac.stands, names()) == (False, before)

    cabled(scene)


def test_what_an_earlier_life_left_is_adopted_as_it_is() -> None:
    def scene(nic: int) -> None:
        earlier = VirtualMac(nic=nic, vhid=42)
        earlier.make()
        earlier.set_up(up=True)
        mac = VirtualMac(nic=nic, vhid=42)
        mac.make()
        assert (mac.name, mac.index) == ("carp42", earlier.index)
        assert "UP" in link("carp42")["flags"]
        mac.set_up(up=False)
        assert "UP" not in link("carp42")["flags"]
        assert [each.vhid for each in leftovers([(nic, 7), (nic, 42), (nic + 1, 42)])] == [42]
        mac.remove()
        assert leftovers([(nic, 42)]) == []

    cabled(scene)


def test_the_same_vhid_on_another_nic_has_a_name_of_its_own_and_others_names_are_left_alone() -> None:
    def scene(nic: int) -> None:
        ip("link add carp42 type bridge")
        one, two = VirtualMac(nic=nic, vhid=42), VirtualMac(nic=socket.if_nametoindex("far"), vhid=42)
        one.make()
        two.make()
        assert (one.name, two.name) == ("carp42-2", "carp42-3")
        assert link("carp42-2")["address"] == link("carp42-3")["address"] == "00:00:5e:00:01:2a"
        one.remove()
        assert names() == {"lo", "near", "far", "carp42", "carp42-3"}

    cabled(scene)


@pytest.mark.parametrize(
    "changes",
    ["alias of-somebody-else", "address 00:00:5e:00:01:2b", "name other42"],
)
def test_a_macvlan_that_lacks_one_of_our_marks_is_not_ours(changes: str) -> None:
    def scene(nic: int) -> None:
        VirtualMac(nic=nic, vhid=42).make()
        ip(f"link set carp42 {changes}")
        before = names()
        assert leftovers([(nic, 42)]) == []
        VirtualMac(nic=nic, vhid=42).remove()
        assert names() == before

    cabled(scene)


def test_others_may_have_names_and_aliases_of_any_bytes() -> None:
    def scene(nic: int) -> None:
        subprocess.run(["ip", "link", "add", b"odd\xff", "alias", b"caf\xe9", "type", "bridge"], check=True)
        mac = VirtualMac(nic=nic, vhid=42)
        mac.make()
        assert leftovers([(nic, 42)])[0].index == mac.index
        mac.remove()

    cabled(scene)


def test_a_nic_that_cannot_have_one_says_why() -> None:
    def scene(nic: int) -> None:
        ip("link add bridge type bridge")
        ip("link set near master bridge")
        with pytest.raises(VirtualMacError, match=r"^near cannot have a virtual MAC: it is a port of a bridge"):
            VirtualMac(nic=nic, vhid=42).make()

    cabled(scene)


def test_one_that_somebody_removed_stands_no_more_and_cannot_be_shown() -> None:
    def scene(nic: int) -> None:
        mac = VirtualMac(nic=nic, vhid=42)
        mac.make()
        ip("link del carp42")
        assert (mac.stands, mac.is_up) == (False, None)
        with pytest.raises(VirtualMacError, match=r"^carp42 cannot be set up: "):
            mac.set_up(up=True)
        mac.remove()

    cabled(scene)


def test_the_mac_is_that_of_the_bsds() -> None:
    assert virtual_mac(255).hex(":") == "00:00:5e:00:01:ff"
