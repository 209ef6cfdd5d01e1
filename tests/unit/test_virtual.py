"""A group's virtual MAC as the parent keeps it, on a real kernel of its own."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable

import pytest

from sidecar.net.virtual_mac import VirtualMac
from sidecar.virtual import Virtual, sweep
from tests.fakes.namespace import cable, in_new_network, ip
from tests.fakes.plans import group_plan

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

GROUP = group_plan(interface="near", vips=("10.0.0.200/32", "fd00::200/128"), mac="virtual")


def made(scene: Callable[[Virtual], None], group: object = GROUP) -> None:
    def play() -> None:
        cable()
        virtual = Virtual(group, nic=socket.if_nametoindex("near"))  # type: ignore[arg-type]
        virtual.make()
        scene(virtual)
        virtual.remove()
        assert ip("link show type macvlan") == ""
        assert ruleset() == ""

    in_new_network(play)


def ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def up() -> bool:
    (link,) = json.loads(ip("-j link show carp42"))
    return "UP" in link["flags"]


def test_it_is_on_the_wire_while_it_is_shown() -> None:
    def scene(virtual: Virtual) -> None:
        assert (up(), virtual.index) == (False, socket.if_nametoindex("carp42"))
        assert (virtual.show(), up()) == (None, True)
        assert (virtual.show(), up()) == (None, True)
        virtual.hide()
        assert not up()
        table = ruleset()
        assert "table arp carp-mac-near-42" in table
        assert "arp saddr ip set 10.0.0.11" in table

    made(scene)


@pytest.mark.parametrize(
    ("vip", "tables"),
    [("fd00::200/128", ["table inet carp-mld-near-42 {"]), ("10.0.0.200/32", ["table arp carp-mac-near-42 {"])],
)
def test_each_address_family_needs_a_table_of_its_own(vip: str, tables: list[str]) -> None:
    def scene(virtual: Virtual) -> None:
        assert virtual.show() is None
        assert [line for line in ruleset().splitlines() if line.startswith("table")] == tables

    made(scene, group_plan(interface="near", vips=(vip,), mac="virtual"))


def test_one_that_somebody_removed_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    def scene(virtual: Virtual) -> None:
        virtual.show()
        ip("link del carp42")
        assert (virtual.show(), up()) == (None, True)
        assert virtual.index == socket.if_nametoindex("carp42")

    made(scene)
    assert caplog.messages == ["somebody removed carp42, the virtual MAC of group web: it is made anew"]


def test_one_that_somebody_set_down_is_told_once_and_is_up_again_with_the_next_lease() -> None:
    def scene(virtual: Virtual) -> None:
        assert not virtual.fell()  # hidden, not fallen
        virtual.show()
        assert not virtual.fell()
        ip("link set carp42 down")
        assert [virtual.fell(), virtual.fell()] == [True, False]
        assert (virtual.show(), up()) == (None, True)
        assert not virtual.fell()  # it was told
        ip("link set carp42 down")
        assert (virtual.show(), up()) == (None, True)
        assert [virtual.fell(), virtual.fell()] == [True, False]  # a renewal came first
        ip("link set carp42 down")
        assert virtual.fell()
        ip("link set carp42 down")
        virtual.hide()
        assert not virtual.fell()

    made(scene)


def test_one_that_somebody_set_up_is_hidden_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def scene(virtual: Virtual) -> None:
        virtual.stay_hidden()
        ip("link set carp42 up")
        virtual.hide()
        assert not up()
        assert caplog.messages == []
        ip("link set carp42 up")
        virtual.stay_hidden()
        assert not up()

    made(scene)
    assert caplog.messages == ["carp42, the virtual MAC of group web, was up without its VIPs: it is set down again"]


def test_one_that_cannot_be_shown_says_why_and_hiding_it_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    def scene(virtual: Virtual) -> None:
        virtual.show()
        ip("link del near")
        assert "cannot have a virtual MAC" in (virtual.show() or "")
        virtual.hide()

    made(scene)
    assert caplog.messages[1:] != []


def test_what_an_earlier_run_left_is_swept_where_no_group_has_it_now(caplog: pytest.LogCaptureFixture) -> None:
    def play() -> None:
        cable()
        nic = socket.if_nametoindex("near")
        for vhid in (42, 43):
            VirtualMac(nic=nic, vhid=vhid).make()
        sweep({(nic, 42): "web", (nic, 7): "db"})
        assert [line.split("@")[0].split()[-1] for line in ip("-o link show type macvlan").splitlines()] == ["carp43"]

    in_new_network(play)
    assert caplog.messages == ["removed the virtual MAC of vhid 42, which an earlier run left behind"]
