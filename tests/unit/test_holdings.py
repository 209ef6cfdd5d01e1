"""What the parent holds of a real kernel's, on a network of its own."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_interface

import pytest

from sidecar.exits import ExitError
from sidecar.holdings import Holdings
from sidecar.net.addresses import Addresses, Link
from tests.fakes.namespace import cable, in_new_network, ip
from tests.fakes.plans import group_plan

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

VIP = "10.0.0.200"
WEB = group_plan(interface="near", vips=(f"{VIP}/32",))


@contextmanager
def opened(*groups: object) -> Iterator[Holdings]:
    holdings = Holdings(groups or (WEB,))  # type: ignore[arg-type]
    holdings.open()
    try:
        holdings.open_interfaces()
        yield holdings
    finally:
        holdings.close()


def cabled(scene: Callable[[], None]) -> None:
    def play() -> None:
        cable()
        scene()

    in_new_network(play)


def bound() -> bool:
    return VIP in ip("address show dev near")


def test_a_lease_is_taken_extended_and_given_back() -> None:
    def scene() -> None:
        with opened() as holdings:
            assert (holdings.bind("web"), bound()) == (None, True)
            assert (holdings.bind("web"), bound()) == (None, True)
            holdings.release("web")
            assert not bound()

    cabled(scene)


def test_at_the_end_nothing_of_us_stays() -> None:
    def scene() -> None:
        with opened() as holdings:
            holdings.bind("web")
        assert not bound()

    cabled(scene)


def test_a_lease_that_stands_is_resumable_and_what_is_left_of_another_is_taken_off() -> None:
    def scene() -> None:
        two = group_plan(interface="near", vips=(f"{VIP}/32", "10.0.0.201/32"))
        with opened(two) as holdings:
            assert holdings.resumable() == set()
            holdings.bind("web")
            assert holdings.resumable() == {"web"}
            ip("address del 10.0.0.201/32 dev near")
            assert (holdings.resumable(), bound()) == (set(), False)

    cabled(scene)


def test_a_group_that_is_not_ours_is_not_known() -> None:
    def scene() -> None:
        with opened() as holdings:
            assert (holdings.knows("web"), holdings.knows("db")) == (True, False)

    cabled(scene)


def test_what_an_earlier_run_left_is_swept(caplog: pytest.LogCaptureFixture) -> None:
    def scene() -> None:
        with Addresses() as kernel:
            index = next(link.index for link in kernel.links() if link.name == "near")
            kernel.put(index=index, vip=ip_interface(f"{VIP}/32"), lifetime=600)
        with opened() as holdings:
            holdings.sweep()
            assert not bound()

    cabled(scene)
    assert caplog.messages == [f"removed {VIP}/32, which an earlier run left behind"]


def test_our_links_changes_are_told_and_no_others() -> None:
    def scene() -> None:
        holdings = Holdings((WEB,))
        told = holdings.open()
        holdings.open_interfaces()
        ip("link add other type veth peer name another")
        ip("link set far down")
        changed: list[Link] = []
        while not changed or changed[-1].up:  # the kernel tells of a lost carrier when it gets round to it
            assert select.select([told], [], [], 10)[0], "nothing was told"
            changed += holdings.changed_links()
        assert {link.name for link in changed} == {"near"}
        assert holdings.links["near"] == changed[-1]
        holdings.close()

    cabled(scene)


GONE = "there is no interface near any more: its groups wait until there is one again, with a carrier"
RENAMED = (
    "there is no interface near any more: its groups go on, but nobody sees its carrier until it has this name again"
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["link del near"], [GONE]),
        (["link set near down", "link set near name elsewhere", "link set elsewhere up"], [GONE]),
        (["link set near name elsewhere"], [RENAMED]),
        (["link set near name elsewhere", "link set elsewhere name near"], [RENAMED]),
        (["link set near down"], []),
        (["link set far down"], []),
    ],
)
def test_an_interface_that_is_gone_is_a_warning_once(
    caplog: pytest.LogCaptureFixture, changes: list[str], said: list[str]
) -> None:
    def scene() -> None:
        with opened() as holdings:
            for change in changes:
                ip(change)
                holdings.changed_links()
            holdings.changed_links()

    cabled(scene)
    assert caplog.messages == said


def test_another_interface_of_the_same_name_is_the_end() -> None:
    def scene() -> None:
        with opened() as holdings:
            ip("link del near")
            assert [link.up for link in holdings.changed_links()][-1:] in ([], [False])
            cable()
            with pytest.raises(ExitError, match=r"^interface near was replaced \(index \d+ -> \d+\)$") as caught:
                holdings.changed_links()
            assert caught.value.code == 1

    cabled(scene)


@pytest.mark.parametrize(("interface", "fault"), [("none0", "is not there"), ("lo", "is not an Ethernet interface")])
def test_an_interface_that_cannot_be_used_is_a_mistake_in_the_settings(interface: str, fault: str) -> None:
    def scene() -> None:
        holdings = Holdings((group_plan(interface=interface),))
        holdings.open()
        with pytest.raises(ExitError, match=f"^CARP_INTERFACE: {interface} {fault}; there are: far, near$") as caught:
            holdings.open_interfaces()
        assert caught.value.code == 2
        holdings.close()

    cabled(scene)
