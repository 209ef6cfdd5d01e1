"""What the parent holds of a real kernel's, on a network of its own."""

from __future__ import annotations

import errno
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface

import pytest

from sidecar.exits import ExitError
from sidecar.holdings import Holdings
from sidecar.ipc.messages import Disturbed, LinkChanged, OpenInterface, encode
from sidecar.net.addresses import Addresses, Link
from sidecar.net.cutoff import Cutoff
from sidecar.observe.moment import boot_time
from tests.fakes.namespace import cable, in_new_network, ip
from tests.fakes.plans import group_plan
from tests.netns.peers import until

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("real_kernel")]

VIP = "10.0.0.200"
WEB = group_plan(interface="near", vips=(f"{VIP}/32",))


@contextmanager
def opened(*groups: object) -> Iterator[Holdings]:
    holdings = Holdings(groups or (WEB,))  # type: ignore[arg-type]
    holdings.open()
    try:
        holdings.open_interfaces()
        holdings.leases.begin()
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


def renew(holdings: Holdings, *, seconds: float = 2.9) -> str | None:
    return holdings.leases.renew("web", until=boot_time() + seconds)


def ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


FOREIGN = "table inet carp-sidecar-of-others {\n chain input {\n type filter hook input priority 0\n drop\n }\n }\n"


def test_a_lease_is_taken_extended_and_given_back() -> None:
    def scene() -> None:
        with opened() as holdings:
            assert (renew(holdings), bound()) == (None, True)
            assert (renew(holdings), bound()) == (None, True)
            assert "carp-sidecar-near-42" in ruleset()
            holdings.leases.release("web")
            until(lambda: not bound(), "it is taken off")

    cabled(scene)


def test_at_the_end_nothing_of_us_stays_and_all_of_others_does() -> None:
    def scene() -> None:
        subprocess.run(["nft", "-f", "-"], check=True, input=FOREIGN, text=True)
        ip("address add 10.0.0.201/32 dev near")
        before = ruleset(), ip("address show dev near")
        with opened() as holdings:
            renew(holdings)
            assert bound()
            assert ruleset() != before[0]
        assert (ruleset(), ip("address show dev near")) == before

    cabled(scene)


def test_a_flushed_ruleset_is_put_back_with_the_next_renewal(caplog: pytest.LogCaptureFixture) -> None:
    def scene() -> None:
        with opened() as holdings:
            renew(holdings)
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            assert (renew(holdings), bound()) == (None, True)
            assert f"{VIP} timeout" in ruleset()

    cabled(scene)
    assert "nftables table carp-sidecar-near-42 was gone" in caplog.text


def test_a_lease_that_stands_is_resumable_and_what_is_left_of_another_is_taken_off() -> None:
    def scene() -> None:
        two = group_plan(interface="near", vips=(f"{VIP}/32", "10.0.0.201/32"))
        with opened(two) as holdings:
            assert holdings.leases.resumable() == set()
            renew(holdings, seconds=2.9)
            assert holdings.leases.resumable() == {"web"}
            ip("address del 10.0.0.201/32 dev near")
            assert holdings.leases.resumable() == set()
            until(lambda: not bound(), "it is taken off")

    cabled(scene)


def test_a_vip_that_is_the_nodes_own_address_is_neither_bound_nor_taken_off(caplog: pytest.LogCaptureFixture) -> None:
    def scene() -> None:
        with opened() as holdings:
            ip(f"address add {VIP}/32 dev near")
            told = holdings.watch_addresses()
            assert renew(holdings) == (
                f"{VIP} is this node's own address ({VIP}/32 on near); remove it: ip addr del {VIP}/32 dev near, "
                "or use a VIP that no node has"
            )
            holdings.leases.release("web")
            assert "valid_lft forever" in ip(f"address show to {VIP}")
            ip(f"address del {VIP}/32 dev near")
            assert select.select([told], [], [], 10)[0]
            assert holdings.disturbed() == []
            assert (renew(holdings), bound()) == (None, True)

    cabled(scene)
    (warning,) = [message for message in caplog.messages if "configured on near" in message]
    assert warning == (
        f"{VIP}, a VIP, is configured on near as this node's own address: while it is, this node does not take over; "
        f"remove it: ip addr del {VIP}/32 dev near"
    )


def test_addresses_are_put_anew_where_their_own_interface_is_down_not_where_any_is() -> None:
    """Most nodes have one that is down, and each address that anybody puts is told to us."""

    def scene() -> None:
        with opened() as holdings:
            holdings.watch_addresses()
            renew(holdings)
            kept = holdings.leases._keeper._kept
            assert not holdings.links["lo"].up
            assert (holdings.disturbed(), kept.keys()) == ([], {"web"})
            ip("link set near down")
            holdings.changed_links()
            assert (holdings.disturbed(), kept.keys()) == ([], set())

    cabled(scene)


def test_what_others_do_to_a_held_vip_is_told_and_what_this_node_does_is_not(caplog: pytest.LogCaptureFixture) -> None:
    def scene() -> None:
        with opened() as holdings:
            told = holdings.watch_addresses()
            renew(holdings)
            renew(holdings, seconds=0.9)
            holdings.leases.release("web")
            renew(holdings, seconds=0.9)
            renew(holdings)
            assert holdings.disturbed() == []
            ip(f"address del {VIP}/32 dev near")
            assert select.select([told], [], [], 10)[0]
            assert holdings.disturbed() == [Disturbed(group="web", detail=f"somebody deleted {VIP}/32 on near")]
            renew(holdings)
            ip(f"address change {VIP}/32 dev near")
            assert holdings.disturbed() == [Disturbed(group="web", detail=f"somebody changed {VIP}/32 on near")]
            renew(holdings)
            ip("link set near down")
            holdings.changed_links()
            ip(f"address del {VIP}/32 dev near")
            assert holdings.disturbed() == []

    cabled(scene)
    assert [message for message in caplog.messages if "somebody" in message] == [
        f"somebody deleted {VIP}/32 on near; it is put back and announced again",
        f"somebody changed {VIP}/32 on near; it is put back and announced again",
    ]


def test_a_group_that_is_not_ours_is_not_known() -> None:
    def scene() -> None:
        with opened() as holdings:
            assert (holdings.leases.knows("web"), holdings.leases.knows("db")) == (True, False)

    cabled(scene)


def test_what_an_earlier_run_left_is_swept(caplog: pytest.LogCaptureFixture) -> None:
    def scene() -> None:
        with Cutoff("near-7") as earlier:
            earlier.install([ip_address(VIP)])
        with Addresses() as kernel:
            index = next(link.index for link in kernel.links() if link.name == "near")
            kernel.put(index=index, vip=ip_interface(f"{VIP}/32"), lifetime=600)
        with opened():
            until(lambda: not bound(), "it is taken off")
            assert "carp-sidecar-near-7" not in ruleset()

    cabled(scene)
    assert [message for message in caplog.messages if "left behind" in message] == [
        f"removed {VIP}/32, which an earlier run left behind",
        "removed nftables table carp-sidecar-near-7, which an earlier run left behind",
    ]


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
RENAMED = "there is no interface near any more: its groups go on with elsewhere, until there is another of this name"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["link del near"], [GONE]),
        (["link set near down", "link set near name elsewhere", "link set elsewhere up"], [RENAMED]),
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
    assert [message for message in caplog.messages if "lease of" not in message] == said


def until_up(holdings: Holdings) -> list[Link]:
    """Return what changed until the interface is up again."""
    changed: list[Link] = []
    while not changed or not changed[-1].up:
        changed += holdings.changed_links()
    return changed


def test_another_interface_of_the_same_name_is_gone_over_to(caplog: pytest.LogCaptureFixture) -> None:
    def scene() -> None:
        with opened() as holdings:
            renew(holdings)
            before = holdings.sockets["near"]
            ip("link del near")
            assert [link.up for link in holdings.changed_links()][-1:] in ([], [False])
            cable()
            link = until_up(holdings)[-1]
            assert not holdings.leases.holds("web")
            message, descriptors = holdings.news(link)
            opened_anew = holdings.sockets["near"]
            assert isinstance(message, OpenInterface)
            assert (message.index, message.up, message.wires) == (link.index, True, (4,))
            assert descriptors == [sock.fileno() for sock in opened_anew.every]
            assert {sock.fileno() for sock in before.every} == {-1}
            assert opened_anew.wires[4].getsockname()[0] == "near"
            assert holdings.news(link) == (LinkChanged(interface="near", up=True, mac=link.mac), [])
            assert (renew(holdings), bound()) == (None, True)

    cabled(scene)
    assert [message for message in caplog.messages if "was replaced (index " in message]


def test_what_is_done_to_a_vip_is_told_whatever_bytes_its_interface_is_named() -> None:
    def scene() -> None:
        with opened() as holdings:
            holdings.watch_addresses()
            renew(holdings)
            subprocess.run(["ip", "link", "set", "near", "name", b"odd\xff"], check=True)
            holdings.changed_links()
            subprocess.run(["ip", "address", "del", f"{VIP}/32", "dev", b"odd\xff"], check=True)
            (told,) = holdings.disturbed()
            assert told.detail == f"somebody deleted {VIP}/32 on odd\\udcff"
            encode(told)

    cabled(scene)


def test_a_renamed_interface_is_followed_until_another_takes_its_name() -> None:
    def scene() -> None:
        with opened() as holdings:
            renew(holdings)
            old = holdings.links["near"].index
            ip("link set near name elsewhere")
            ip("link set far down")
            changed: list[Link] = []
            while not changed or changed[-1].up:
                changed += holdings.changed_links()
            assert {(link.name, link.index) for link in changed} == {("near", old)}
            ip("link set far up")
            until_up(holdings)
            assert (renew(holdings), VIP in ip("address show dev elsewhere")) == (None, True)
            ip("link set far name farther")
            cable()
            while holdings.links["near"].index == old:
                holdings.changed_links()
            assert VIP not in ip("address show dev elsewhere")
            assert (renew(holdings), bound()) == (None, True)

    cabled(scene)


def test_one_that_cannot_be_opened_yet_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scene() -> None:
        with opened() as holdings:
            old = holdings.links["near"].index
            ip("link del near")
            with monkeypatch.context() as patched:
                patched.setattr("sidecar.holdings.sockets.open_packet_socket", not_yet)
                cable()
                while "No such device; it is tried again when something changes" not in caplog.text:
                    holdings.changed_links()
            assert holdings.links["near"].index == old
            ip("link set near mtu 1400")
            until_up(holdings)
            assert holdings.links["near"].index != old

    def not_yet(*_: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

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
