"""Gratuitous ARP, unsolicited NA, and the link (``carp_send_arp``, ``carp_send_na``, ``carp_carpdev_state``)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from sidecar.ipc.messages import LinkChanged
from sidecar.protocol import events
from sidecar.protocol.effects import Announce, Bind, Release, RoleChanged
from sidecar.protocol.types import Reason, Role
from tests.fakes.engine import MAC, DrivenEngine
from tests.fakes.groups import LEASED, TICK, adverts, backup, goodbye, heard, master, run, took_over
from tests.fakes.plans import PATH4, PATH6, group_plan
from tests.fakes.station import StartStation, is_advert

ARP, ND = "arp", "nd"
BROADCAST, ALL_NODES = b"\xff" * 6, bytes.fromhex("333300000001")
VIPS = ("10.0.0.200/32", "10.0.0.201/32", "fd00::200/128")


def told(frame: bytes) -> tuple[str, str]:
    """Return what a frame is, and of which address it tells."""
    if is_advert(frame):
        return "advert", ""
    if frame[12:14] == b"\x08\x06":
        return f"{ARP}-{frame[21]}", str(ip_address(frame[28:32]))
    assert frame[12:14] == b"\x86\xdd"
    assert frame[54] == 136
    return ND, str(ip_address(frame[62:78]))


# A new master --------------------------------------------------------------------------------------------------------


def test_first_the_advert_then_the_announcements_as_with_the_bsds(station: StartStation) -> None:
    """ucarp runs its script and announces before it advertises, so that it answers before its peers know."""
    ours = station(vips=VIPS)
    ours.pass_time(3.0)
    assert [told(frame) for frame in ours.frames()] == [
        ("advert", ""),
        ("arp-1", "10.0.0.200"),
        ("arp-2", "10.0.0.200"),
        ("arp-1", "10.0.0.201"),
        ("arp-2", "10.0.0.201"),
        (ND, "fd00::200"),
    ]


def test_nothing_is_announced_before_the_addresses_are_bound() -> None:
    group = backup()
    done = group.handle(TICK, 3.0)
    assert Bind() in done
    assert Announce() not in done
    assert group.handle(LEASED, 3.2) == (Announce(),)


def test_each_ipv4_address_has_an_arp_request_from_all_and_ours_a_reply_besides(station: StartStation) -> None:
    """Some stacks learn from only one of the two (RFC 5227, section 3)."""
    ours = station(vips=VIPS[:1])
    ours.pass_time(3.0)
    _, request, reply = ours.frames()
    for frame, operation in ((request, 1), (reply, 2)):
        assert frame[:14] == BROADCAST + MAC + b"\x08\x06"
        assert frame[14:22] == bytes((0, 1, 8, 0, 6, 4, 0, operation))
        assert frame[28:32] == frame[38:42] == bytes((10, 0, 0, 200))  # the sender's and the target's address


def test_each_ipv6_address_has_one_neighbour_advertisement_to_all_nodes_with_override(station: StartStation) -> None:
    ours = station(vips=VIPS[2:], paths=(PATH4, PATH6))
    ours.pass_time(3.0)
    (frame,) = (frame for frame in ours.frames() if not is_advert(frame))
    assert frame[:14] == ALL_NODES + MAC + b"\x86\xdd"
    assert frame[21] == 255  # hop limit
    assert ip_address(frame[38:54]) == ip_address("ff02::1")
    assert frame[58] & 0x20  # override
    assert not frame[58] & 0x40  # unsolicited


def test_the_addresses_are_at_the_nics_own_mac_as_with_ucarp(station: StartStation) -> None:
    """BSD masters say, and answer with, 00:00:5e:00:01:VHID; ours are answered for by the kernel that holds them."""
    ours = station(vips=VIPS)
    ours.pass_time(3.0)
    for frame in ours.frames():
        assert frame[6:12] == MAC
        if told(frame)[0].startswith(ARP):
            assert frame[22:28] == MAC
        elif told(frame)[0] == ND:
            assert frame[78:86] == bytes((2, 1)) + MAC


def test_the_target_mac_of_the_request_is_0_as_with_netbsd(station: StartStation) -> None:
    """ucarp puts its own there; nobody looks (RFC 826)."""
    ours = station(vips=VIPS[:1])
    ours.pass_time(3.0)
    assert ours.frames()[1][32:38] == bytes(6)


def test_they_are_repeated_as_with_ucarp_and_openbsd_who_do_so_once_two_adverts_later() -> None:
    """Ours three times, over a second apart: Linux lets an ARP entry change only once a second."""
    group, at = master(lease=10.0)
    again = [now - at for now, effect in run(group, at + 20) if effect == Announce()]
    assert again == pytest.approx([1.1, 2.2, 3.3])


def test_a_backup_announces_nothing() -> None:
    group = backup()
    for now in range(1, 60):
        assert group.handle(heard(), float(now)) == ()


def test_who_takes_over_by_goodbye_or_preemption_announces_as_well() -> None:
    for group, event in ((backup(), goodbye()), (backup(preempt=True), heard(advskew=9))):
        assert took_over((*group.handle(event, 1.0), *group.handle(TICK, 1.0))) is not None
        assert group.handle(LEASED, 1.0) == (Announce(),)


# The link ------------------------------------------------------------------------------------------------------------


def test_a_lost_link_makes_init_and_stops_the_timers_as_with_the_bsds() -> None:
    for group in (backup(), master()[0]):
        group.handle(events.LinkChanged(up=False), 3.5)
        assert group.role is Role.INIT
        assert group.deadline() is None
        assert group.handle(TICK, 100.0) == ()
        assert group.handle(heard(advskew=254), 100.0) == ()


def test_a_master_without_a_link_lets_go_and_says_no_goodbye_that_nobody_would_hear() -> None:
    group, at = master()
    done = group.handle(events.LinkChanged(up=False), at + 0.5)
    assert [type(effect) for effect in done] == [Release, RoleChanged]
    assert adverts(done) == []


def test_a_link_that_returns_makes_backup_with_a_full_timer_as_with_the_bsds() -> None:
    group, at = master(advskew=64)
    group.handle(events.LinkChanged(up=False), at + 0.5)
    done = group.handle(events.LinkChanged(up=True), at + 50.0)
    assert [(e.after, e.reason) for e in done if isinstance(e, RoleChanged)] == [(Role.BACKUP, Reason.LINK_UP)]
    assert group.deadline() == at + 50.0 + 3.25


def test_it_is_heard_of_at_once_where_ucarp_sleeps_for_ten_seconds_at_a_time() -> None:
    """ucarp: seen to come back 10.7 s after the carrier."""
    group = backup()
    for now in (1.0, 1.001, 1.002):
        group.handle(events.LinkChanged(up=False), now)
        assert group.role is Role.INIT
        group.handle(events.LinkChanged(up=True), now + 0.0005)
        assert group.role is Role.BACKUP


@pytest.fixture
def engine() -> Iterator[DrivenEngine]:
    """An engine with two interfaces; what it sends is lost in their buffers."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    with DrivenEngine() as engine:
        for number, (near, _) in enumerate(pairs):
            near.setblocking(False)
            engine.open(near, interface=f"eth{number}")
        yield engine
    for each in pairs:
        for end in each:
            end.close()


def test_a_link_is_that_of_all_groups_on_it_and_of_no_other(engine: DrivenEngine) -> None:
    for name, interface, vhid in (("web", "eth0", 1), ("db", "eth0", 2), ("lb", "eth1", 1)):
        engine.start(group_plan(name=name, interface=interface, vhid=vhid))
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC))
    assert {name: engine.group(name).role for name in ("web", "db", "lb")} == {
        "web": "init",
        "db": "init",
        "lb": "backup",
    }


def test_a_link_set_down_by_hand_is_a_lost_link_and_ends_nothing(engine: DrivenEngine) -> None:
    """ucarp ends, with exit code 0 and, without -z, with the address still bound."""
    engine.start(group_plan())
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC))
    assert engine.group().role == "init"
    engine.tell(LinkChanged(interface="eth0", up=True, mac=MAC))
    assert engine.group().role == "backup"


def test_a_nic_that_changed_its_mac_is_announced_with_the_new_one(station: StartStation) -> None:
    ours = station(vips=VIPS[:1])
    ours.port.mac = bytes.fromhex("020000000099")
    ours.pass_time(3.0)
    assert {frame[6:12] for frame in ours.frames()} == {bytes.fromhex("020000000099")}


def test_who_lost_one_interface_is_demoted_on_the_others_as_with_openbsd_and_freebsd(engine: DrivenEngine) -> None:
    """So that a router does not stay master on one side only."""
    engine.start(group_plan(name="web", interface="eth0", vhid=1))
    engine.start(group_plan(name="lb", interface="eth1", vhid=1))
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC))
    assert [(each.name, each.weight) for each in engine.group("lb").demotions] == [("link:eth0", 240)]
    engine.tell(LinkChanged(interface="eth0", up=True, mac=MAC))
    assert engine.group("lb").demotion == 0


def test_ignore_link_leaves_a_group_as_it_is_as_with_ucarps_ignoreifstate(engine: DrivenEngine) -> None:
    engine.start(group_plan(name="web", interface="eth0", vhid=1, ignore_link=True))
    engine.start(group_plan(name="lb", interface="eth1", vhid=1, ignore_link=True))
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC))
    assert [(group.role, group.demotion) for group in engine.status().groups] == [("backup", 0)] * 2
