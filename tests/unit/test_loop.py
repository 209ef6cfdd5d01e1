"""The engine's loop: what the parent tells it, what the wire brings, and deadlines, on a clock that the test turns."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from unittest.mock import ANY

import pytest

from sidecar.ipc.messages import (
    Bind,
    Bound,
    ChangeGroup,
    CloseInterface,
    Demote,
    GroupChanged,
    GroupRole,
    GroupStopped,
    HandOver,
    Health,
    HealthDemotion,
    LinkChanged,
    Message,
    OpenInterface,
    Promote,
    Release,
    Released,
    Renew,
    Snapshot,
    StatusReply,
    StatusRequest,
    Stop,
    StopGroup,
    Stopped,
    encode,
)
from sidecar.net import sockets
from sidecar.net.inquiry import question
from sidecar.net.neighbor import announcements
from sidecar.observe.moment import boot_time
from sidecar.protocol import timing
from sidecar.protocol.auth import Authenticator
from sidecar.protocol.packet import Header, build_ipv4, pack, parse_ipv4, unpack
from sidecar.protocol.types import CARP_GROUP
from tests.fakes.captures import ethernet
from tests.fakes.engine import MAC, DrivenEngine
from tests.fakes.namespace import cable, in_new_network, ip
from tests.fakes.plans import KEY, group_plan

VIPS = (IPv4Address("10.0.0.200"),)
PLAN = group_plan(vips=("10.0.0.200/32",))
PEER = IPv4Address("10.0.0.12")
SUCCESSION = timing.succession(advbase=1, advskew=0)
LEASED, BIND, RENEW, RELEASE, RELEASED = (
    Bound(group="web", error=None),
    Bind(group="web", until=ANY),
    Renew(group="web", until=ANY),
    Release(group="web"),
    Released(group="web"),
)


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """What the engine takes for a packet socket (nothing is received through it), and its other end."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


@pytest.fixture
def far(wire: tuple[socket.socket, socket.socket]) -> socket.socket:
    return wire[1]


@pytest.fixture
def engine(wire: tuple[socket.socket, socket.socket]) -> Iterator[DrivenEngine]:
    with DrivenEngine() as engine:
        engine.open(wire[0])
        yield engine


def sent(far: socket.socket) -> list[str]:
    """Return what left since the last call: ``advert ADVBASE`` or ``arp``."""
    seen: list[str] = []
    while True:
        try:
            frame = far.recv(4096)
        except BlockingIOError:
            return seen
        carp = frame[12:14] == b"\x08\x00"
        seen.append(f"advert {unpack(parse_ipv4(frame[14:]).payload).advbase}" if carp else "arp")


def without_snapshots(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if not isinstance(message, Snapshot)]


def roles(messages: Sequence[Message]) -> list[tuple[GroupRole, ...]]:
    return [message.groups for message in messages if isinstance(message, Snapshot)]


def fill(engine: DrivenEngine) -> None:
    """Let the parent have more to read than fits into the channel."""
    with contextlib.suppress(BlockingIOError):
        while True:
            engine._channel.send(Renew(group="web", until=1.0))


def become_master(engine: DrivenEngine, far: socket.socket) -> None:
    engine.start(PLAN)
    engine.pass_time(3.0)
    engine.tell(LEASED)
    assert sent(far) == ["advert 1", "arp", "arp"]
    assert without_snapshots(engine.said()) == [BIND]


# The conversation ----------------------------------------------------------------------------------------------------


def test_from_start_to_stop(engine: DrivenEngine, far: socket.socket) -> None:
    engine.start(PLAN)
    ((role,),) = roles(engine.said())
    assert (role.name, role.role, role.reason) == ("web", "backup", "start")
    engine.pass_time(2.9)
    assert (engine.said(), sent(far)) == ([], [])
    engine.pass_time(0.1)
    bind, snapshot = engine.said()
    assert (bind, sent(far)) == (BIND, ["advert 1"])
    assert roles([snapshot])[0][0].role == "master"
    engine.tell(LEASED)
    assert (engine.said(), sent(far)) == ([], ["arp", "arp"])
    engine.pass_time(1.0)
    assert (engine.said(), sent(far)) == ([RENEW], ["advert 1"])
    engine.tell(LEASED, Stop())
    release, snapshot = engine.said()
    assert (release, sent(far)) == (RELEASE, [])
    assert [(role.role, role.reason) for role in roles([snapshot])[0]] == [("init", "stop")]
    engine.tell(RELEASED)
    assert (engine.said(), sent(far)) == ([], ["advert 255"])
    engine.pass_time(SUCCESSION)
    assert engine.run() == 0
    assert (engine.said(), sent(far)) == ([Stopped()], [])


def test_a_refused_lease_is_told_and_tried_again_later(engine: DrivenEngine, far: socket.socket) -> None:
    engine.start(PLAN)
    engine.pass_time(3.0)
    engine.said()
    engine.tell(Bound(group="web", error="the kernel refused 10.0.0.200/32"))
    assert without_snapshots(engine.said()) == [RELEASE]
    assert sent(far) == ["advert 1", "advert 255"]
    engine.tell(RELEASED)
    group = engine.group()
    assert (group.role, group.reason, group.detail) == ("backup", "bind-failed", "the kernel refused 10.0.0.200/32")
    engine.pass_time(3.0)
    assert without_snapshots(engine.said()) == [BIND]


def test_a_resumed_group_is_master_at_once(engine: DrivenEngine) -> None:
    engine.start(PLAN, resume=True)
    bind, snapshot = engine.said()
    assert bind == BIND
    assert [(role.role, role.reason) for role in roles([snapshot])[0]] == [("master", "resumed")]


@pytest.mark.parametrize("plans", [[], [PLAN], [PLAN, group_plan(name="db", vhid=7)]], ids=["none", "one", "two"])
def test_backups_stop_at_once_and_without_a_word_on_the_wire(
    engine: DrivenEngine, far: socket.socket, plans: list[object]
) -> None:
    for plan in plans:
        engine.start(plan)  # type: ignore[arg-type]
    engine.said()
    engine.parent.send(Stop())
    assert engine.run() == 0
    assert without_snapshots(engine.said()) == [Stopped()]
    assert sent(far) == []


def test_a_stop_waits_for_the_last_of_several_groups(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    engine.start(group_plan(name="db", vhid=7))
    engine.said()
    engine.tell(Stop())
    assert without_snapshots(engine.said()) == [RELEASE]
    engine.tell(RELEASED)
    engine.pass_time(SUCCESSION)
    assert engine.run() == 0
    snapshot, stopped = engine.said()
    assert ([role.reason for role in roles([snapshot])[0]], stopped) == (["stop", "stop"], Stopped())


def test_what_is_kept_stops_after_all_others_with_a_whole_lease(engine: DrivenEngine, far: socket.socket) -> None:
    """It goes on while they wait for their successors, or little would be left of its lease for the next run."""
    become_master(engine, far)
    engine.start(group_plan(name="db", vhid=7, vips=("10.0.0.201/32",), on_exit="keep"), resume=True)
    engine.tell(Bound(group="db", error=None))
    engine.said()
    sent(far)
    engine.tell(Stop(), RELEASED)
    assert without_snapshots(engine.said()) == [RELEASE]
    assert sent(far) == ["advert 255"]
    engine.pass_time(SUCCESSION)
    assert [message for message in without_snapshots(engine.said()) if message != Stopped()] == [
        Renew(group="db", until=ANY)
    ] * 2, "its regular one, and the last"
    assert sent(far) == ["advert 1", "advert 1"]
    engine.tell(Bound(group="db", error=None))
    assert engine.run() == 0
    assert without_snapshots(engine.said()) == [Stopped()]


def test_without_its_parent_it_ends(engine: DrivenEngine) -> None:
    engine.start(PLAN)
    engine.parent.close()
    assert engine.run() == 1


def test_what_is_not_for_the_engine_is_logged_and_ignored(
    engine: DrivenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.tell(Bind(group="web", until=1.0), Stopped())
    assert engine.status().groups == ()
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "the parent sent a Bind, which is not for the engine",
        "the parent sent a Stopped, which is not for the engine",
    ]


# Links ---------------------------------------------------------------------------------------------------------------


def test_a_lost_carrier_releases_and_its_return_begins_anew(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC))
    assert without_snapshots(engine.said()) == [RELEASE]
    engine.tell(RELEASED)
    assert (engine.group().role, engine.interface().up) == ("init", False)
    engine.pass_time(100.0)
    assert (without_snapshots(engine.said()), sent(far)) == ([], [])
    engine.tell(LinkChanged(interface="eth0", up=True, mac=MAC))
    assert engine.group().role == "backup"
    engine.pass_time(3.0)
    assert without_snapshots(engine.said()) == [BIND]


@pytest.mark.parametrize("up", [True, False])
def test_another_interface_of_the_same_name_is_begun_with_anew(
    engine: DrivenEngine, far: socket.socket, up: bool
) -> None:
    become_master(engine, far)
    near, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, other:
        near.setblocking(False)
        other.setblocking(False)
        engine.open(near, index=3, up=up)
        assert without_snapshots(engine.said()) == [RELEASE]
        engine.tell(RELEASED)
        group = engine.group()
        assert (group.role, group.reason) == (("backup", "link-up") if up else ("init", "link-down"))
        engine.tell(LinkChanged(interface="eth0", up=True, mac=MAC))
        engine.pass_time(3.0)
        assert without_snapshots(engine.said()) == [BIND]
        assert (sent(other), sent(far)) == (["advert 1"], [])


def test_another_mac_is_used_from_then_on_and_changes_no_role(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    other = bytes.fromhex("020000000099")
    engine.tell(LinkChanged(interface="eth0", up=True, mac=other))
    engine.pass_time(1.0)
    assert engine.said() == [RENEW]
    assert far.recv(4096)[6:12] == other


def test_a_link_is_its_interfaces_alone(engine: DrivenEngine, wire: tuple[socket.socket, socket.socket]) -> None:
    engine.open(wire[0], interface="eth1", up=False)
    engine.start(PLAN)
    engine.start(group_plan(name="db", interface="eth1"))  # the same vhid on another interface
    assert (engine.group("web").role, engine.group("db").role) == ("backup", "init")
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC), LinkChanged(interface="eth1", up=True, mac=MAC))
    assert (engine.group("web").role, engine.group("db").role) == ("init", "backup")
    assert (engine.interface("eth0").up, engine.interface("eth1").up) == (False, True)


def demotions(engine: DrivenEngine, name: str) -> list[str]:
    return [f"{each.name} {each.weight} {each.detail}" for each in engine.group(name).demotions]


def test_a_lost_carrier_demotes_the_groups_on_other_interfaces_until_it_is_back(
    engine: DrivenEngine, wire: tuple[socket.socket, socket.socket]
) -> None:
    engine.open(wire[0], interface="eth1")
    engine.start(PLAN)
    engine.start(group_plan(name="db", interface="eth1"))
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC))
    assert (demotions(engine, "web"), demotions(engine, "db")) == ([], ["link:eth0 240 eth0 has no carrier"])
    engine.start(group_plan(name="late", vhid=43, interface="eth1"))
    assert demotions(engine, "late") == ["link:eth0 240 eth0 has no carrier"]
    engine.tell(LinkChanged(interface="eth0", up=True, mac=MAC))
    assert (demotions(engine, "db"), demotions(engine, "late")) == ([], [])


def of_demotions(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [f"{each.levelname} {each.getMessage()}" for each in caplog.records if "demot" in each.getMessage()]
    caplog.clear()
    return said


def test_a_demotion_is_logged_once_per_cause(
    engine: DrivenEngine, wire: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine.open(wire[0], interface="eth1")
    for plan in (PLAN, group_plan(name="db", interface="eth1"), group_plan(name="more", vhid=7, interface="eth1")):
        engine.start(plan)
    for _ in range(2):
        engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC))
    assert of_demotions(caplog) == ["WARNING demoted by 240: eth0 has no carrier (link:eth0)"]
    engine.tell(LinkChanged(interface="eth0", up=True, mac=MAC))
    assert of_demotions(caplog) == ["INFO the demotion link:eth0 is over"]
    engine.tell(Promote(name="maintenance"), Demote(name="maintenance", weight=240, detail="new disks"))
    assert of_demotions(caplog) == ["WARNING demoted by 240: new disks (maintenance)"]
    engine.tell(Promote(name="maintenance"))
    assert of_demotions(caplog) == ["INFO the demotion maintenance is over"]


def test_a_lost_carrier_that_demotes_nobody_is_no_demotion(
    engine: DrivenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine.start(PLAN)
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC), LinkChanged(interface="eth0", up=True, mac=MAC))
    assert of_demotions(caplog) == []


def test_a_carrier_that_is_not_there_at_the_start_demotes_as_well(
    engine: DrivenEngine, wire: tuple[socket.socket, socket.socket]
) -> None:
    engine.open(wire[0], interface="eth1", up=False)
    engine.start(PLAN)
    assert demotions(engine, "web") == []  # no group of ours is there
    engine.start(group_plan(name="db", interface="eth1"))
    assert demotions(engine, "web") == ["link:eth1 240 eth1 has no carrier"]


def test_a_group_that_ignores_links_goes_on_without_and_neither_demotes_nor_is_demoted(
    engine: DrivenEngine, far: socket.socket, wire: tuple[socket.socket, socket.socket]
) -> None:
    engine.open(wire[0], interface="eth1", up=False)
    engine.start(group_plan(name="crossover", interface="eth1", ignore_link=True))
    engine.start(PLAN)
    assert demotions(engine, "web") == []
    engine.pass_time(3.0)
    assert [engine.group(name).role for name in ("crossover", "web")] == ["master", "master"]
    engine.tell(LinkChanged(interface="eth0", up=False, mac=MAC), LinkChanged(interface="eth1", up=True, mac=MAC))
    assert [engine.group(name).role for name in ("crossover", "web")] == ["master", "init"]
    assert (demotions(engine, "crossover"), demotions(engine, "web")) == ([], [])
    assert "advert 1" in sent(far)


# The node as a whole -------------------------------------------------------------------------------------------------


def test_a_demotion_is_every_groups_also_of_those_that_start_later(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    engine.tell(Demote(name="maintenance", weight=240, detail="new disks"))
    assert sent(far) == ["advert 1"]  # at once
    engine.start(group_plan(name="db", vhid=7))
    assert demotions(engine, "web") == demotions(engine, "db") == ["maintenance 240 new disks"]
    engine.tell(Demote(name="maintenance", weight=240, detail="new fans"))
    assert demotions(engine, "web") == ["maintenance 240 new fans"]
    engine.tell(Promote(name="maintenance"), Promote(name="maintenance"))
    assert demotions(engine, "web") == demotions(engine, "db") == []


def test_a_rollout_has_only_backups_stand_aside(
    engine: DrivenEngine, far: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    become_master(engine, far)
    engine.start(group_plan(name="db", vhid=7))
    aside = HealthDemotion(
        name="stand-aside", weight=239, detail="a rollout goes on", groups=("db", "web"), as_backup=True
    )
    engine.tell(Health(demotions=(aside,)))
    assert (demotions(engine, "web"), demotions(engine, "db")) == ([], ["stand-aside 239 a rollout goes on"])
    assert sent(far) == [], "the master does not even say anything"
    engine.tell(Health())
    assert demotions(engine, "db") == []
    assert of_demotions(caplog) == [
        "WARNING demoted by 239 for db, web while backup: a rollout goes on (stand-aside)",
        "INFO the demotion stand-aside is over",
    ]


def test_a_failing_probe_demotes_its_groups_and_soft_ones_add_up(
    engine: DrivenEngine, far: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = HealthDemotion(name="health:app", weight=100, detail="it answered 503")
    disk = HealthDemotion(name="health:disk", weight=60, detail="/data is not there", groups=("db",))
    engine.tell(Health(demotions=(app,)))  # before the groups: none begins without it
    become_master(engine, far)
    engine.start(group_plan(name="db", vhid=7))
    assert engine.group("web").demotion == engine.group("db").demotion == 100
    engine.tell(Health(demotions=(app, disk)), Health(demotions=(app, disk)))
    assert demotions(engine, "web") == ["health:app 100 it answered 503"]
    assert demotions(engine, "db") == ["health:app 100 it answered 503", "health:disk 60 /data is not there"]
    assert (engine.group("web").role, engine.group("db").demotion) == ("master", 160)
    engine.tell(Health())
    assert demotions(engine, "web") == demotions(engine, "db") == []
    assert of_demotions(caplog) == [
        "WARNING demoted by 100: it answered 503 (health:app)",
        "WARNING demoted by 60 for db: /data is not there (health:disk)",
        "INFO the demotion health:app is over",
        "INFO the demotion health:disk is over",
    ]


def test_an_engine_that_resumes_in_maintenance_is_a_demoted_master(engine: DrivenEngine, far: socket.socket) -> None:
    engine.tell(Demote(name="maintenance", weight=240, detail="new disks"))
    engine.start(PLAN, resume=True)
    header = unpack(parse_ipv4(far.recv(4096)[14:]).payload)
    assert (header.advskew, header.demotion) == (240, 240)
    assert (engine.group().role, engine.group().demotion) == ("master", 240)


def test_handing_over_is_a_goodbye_of_every_master(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    engine.start(group_plan(name="db", vhid=7, advskew=100))
    engine.said()
    engine.tell(HandOver())
    assert sent(far) == ["advert 255"]
    assert [type(each) for each in engine.said()] == [Renew]  # it answers on
    assert (engine.group("web").role, engine.group("db").role) == ("master", "backup")


# What people see -----------------------------------------------------------------------------------------------------


def test_a_status_is_answered_with_its_token_and_the_node(engine: DrivenEngine) -> None:
    engine.start(PLAN)
    engine.said()
    engine.tell(StatusRequest(token=12345))
    (reply,) = engine.said()
    assert isinstance(reply, StatusReply)
    assert (reply.token, reply.node) == (12345, "node-1")
    assert [(group.name, group.role, group.vips) for group in reply.groups] == [("web", "backup", PLAN.vips)]
    assert [(link.name, link.up, link.drops) for link in reply.interfaces] == [("eth0", True, {})]


def test_a_long_status_is_told_page_by_page(engine: DrivenEngine) -> None:
    for vhid in range(1, 256):
        engine.start(group_plan(name=f"group-{vhid}", vhid=vhid))
    engine.said()
    engine.tell(StatusRequest(token=1), StatusRequest(token=2, first=254), StatusRequest(token=3, first=2**63))
    pages = [message for message in engine.said() if isinstance(message, StatusReply)]
    assert [(len(page.groups), page.more) for page in pages] == [(80, 80), (1, None), (0, None)]
    assert [group.vhid for group in engine.status().groups] == list(range(1, 256))
    assert len(encode(pages[0])) < 100_000
    engine.tell(StatusRequest(token=4, first=-1))
    (page,) = engine.said()
    assert isinstance(page, StatusReply)
    assert page.groups[0].vhid == 1


def test_the_mirror_hears_of_changes_only_and_then_of_all_groups(engine: DrivenEngine) -> None:
    engine.start(PLAN)
    engine.start(group_plan(name="db", vhid=7, advskew=200))
    engine.pass_time(0.1)
    assert [role.role for role in roles(engine.said())[-1]] == ["backup", "backup"]
    engine.pass_time(2.9)
    assert [(role.name, role.role) for role in roles(engine.said())[-1]] == [("web", "master"), ("db", "backup")]
    engine.pass_time(0.5)
    assert engine.said() == []


def test_the_mirror_hears_of_many_changes_in_a_row_at_once(engine: DrivenEngine) -> None:
    for vhid in range(1, 100):
        engine.start(group_plan(name=f"group-{vhid}", vhid=vhid))
    assert [len(each) for each in roles(engine.said())] == [1]
    engine.pass_time(0.05)
    assert [len(each) for each in roles(engine.said())] == [99]
    engine.pass_time(1.0)
    assert engine.said() == []


def test_the_newest_roles_are_told_once_the_parent_reads_again(engine: DrivenEngine) -> None:
    fill(engine)
    engine.start(PLAN)
    engine.pass_time(1.0)
    assert roles(engine.said()) == []
    engine.pass_time(0.05)
    assert [[role.role for role in each] for each in roles(engine.said())] == [["backup"]]


def test_a_parent_that_never_reads_ends_it_but_not_a_status(
    engine: DrivenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.start(PLAN)
    fill(engine)
    engine.tell(StatusRequest(token=1))
    engine.now = 3.0
    assert engine.run() == 1
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "the status cannot be told: [Errno 11] Resource temporarily unavailable",
        "the parent does not read what it is told: this engine ends",
    ]


# The wire ------------------------------------------------------------------------------------------------------------


def frame(
    *, vhid: int = 42, key: bytes = KEY, damage: slice | None = None, source: IPv4Address = PEER, timing_: int = 1
) -> bytes:
    mac = Authenticator(key=key, vhid=vhid, addresses=VIPS).sign(1)
    advskew = 255 if timing_ == 255 else 0
    payload = bytearray(pack(Header(vhid=vhid, advbase=timing_, advskew=advskew, counter=1, mac=mac)))
    if damage is not None:
        del payload[damage]
    return ethernet(build_ipv4(source=source, destination=CARP_GROUP, identification=0, payload=bytes(payload)))


@pytest.fixture
def cabled(real_kernel: None) -> Iterator[tuple[DrivenEngine, socket.socket]]:  # noqa: ARG001 - it skips
    """An engine on a real packet socket with the group, and the other end of its cable."""

    def build() -> tuple[socket.socket, socket.socket]:
        cable()
        far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        far.bind(("far", 0))
        return sockets.open_packet_socket("near", 4), far

    near, far = in_new_network(build)
    near.setsockopt(socket.SOL_SOCKET, 33, 8 * 1024 * 1024)  # SO_RCVBUFFORCE: a flood must fit
    with near, far, DrivenEngine() as engine:
        engine.open(near, interface="near")
        engine.start(group_plan(interface="near", vips=("10.0.0.200/32",)))
        engine.said()
        yield engine, far


@pytest.mark.netns
def test_packets_are_judged_counted_and_obeyed(cabled: tuple[DrivenEngine, socket.socket]) -> None:
    engine, far = cabled
    engine.pass_time(1.0)
    for packet in (frame(), frame(vhid=9), frame(key=bytes(20)), frame(damage=slice(35, None))):
        far.send(packet)
    engine.serve()
    group = engine.group()
    assert engine.interface("near").drops == {"truncated": 1, "unknown-vhid": 1}
    assert (group.adverts_received, group.drops, group.master) == (1, {"bad-hmac": 1}, "10.0.0.12")
    engine.pass_time(2.9)
    assert engine.said() == []
    engine.pass_time(0.1)
    assert without_snapshots(engine.said()) == [BIND]


@pytest.mark.netns
def test_a_master_that_is_told_to_stop_stays_until_it_hears_its_successor(
    cabled: tuple[DrivenEngine, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine, far = cabled
    engine.pass_time(3.0)
    engine.tell(LEASED, Stop())
    far.send(frame())  # of before the goodbye: no successor's
    engine.serve()
    engine.tell(RELEASED)
    far.send(frame(timing_=255))  # nor is somebody else's goodbye
    engine.serve()
    assert not engine._done()
    far.send(frame())
    assert engine.run() == 0
    assert [each for each in caplog.messages if "now" in each] == ["10.0.0.12 is master now"]


@pytest.mark.netns
def test_a_backup_that_was_not_run_hears_first_what_was_said_meanwhile(
    cabled: tuple[DrivenEngine, socket.socket],
) -> None:
    engine, far = cabled
    far.send(frame())
    engine.pass_time(3.2)  # past the deadline, but not so late that it would wait anyway
    assert (engine.group().role, engine.group().master) == ("backup", "10.0.0.12")
    engine.pass_time(2.9)
    assert engine.group().role == "backup"


@pytest.mark.netns
def test_what_comes_before_the_first_group_is_nobody_s(cabled: tuple[DrivenEngine, socket.socket]) -> None:
    engine, far = cabled
    engine.tell(StopGroup(group="web"))
    far.send(frame())
    engine.serve()
    assert engine.interface("near").drops == {}


@pytest.mark.netns
def test_a_flood_keeps_neither_the_deadlines_nor_the_parent_waiting(
    cabled: tuple[DrivenEngine, socket.socket],
) -> None:
    engine, far = cabled
    for _ in range(2000):
        far.send(frame(vhid=9))
    engine.now = 3.0
    engine.parent.send(StatusRequest(token=1))
    engine.turn()
    reply = next(message for message in engine.said() if isinstance(message, StatusReply))
    assert reply.interfaces[0].drops.get("unknown-vhid", 0) < 2000
    engine.turn()
    assert engine.group().role == "master"
    engine.serve()
    assert engine.interface("near").drops == {"unknown-vhid": 2000}


@pytest.mark.netns
@pytest.mark.usefixtures("real_kernel")
def test_an_interface_that_goes_down_neither_ends_the_loop_nor_keeps_it_awake() -> None:
    def scene() -> str:
        cable()
        with sockets.open_packet_socket("near", 4) as near, DrivenEngine() as engine:
            engine.open(near, interface="near")
            engine.start(group_plan(interface="near"))
            ip("link set near down")
            engine.serve()  # it comes back only when the loop would sleep
            engine.pass_time(3.0)
            return engine.group().role

    assert in_new_network(scene) == "master"  # until the parent tells of the link


@pytest.mark.netns
def test_a_status_of_many_groups_and_strangers_does_not_end_the_engine(
    cabled: tuple[DrivenEngine, socket.socket],
) -> None:
    engine, far = cabled
    for vhid in range(100, 120):
        engine.start(group_plan(name=f"group-{vhid}", vhid=vhid, interface="near"))
        for number in range(64):
            far.send(frame(vhid=vhid, key=bytes(20), source=IPv4Address(0x0A010000 + number)))
        engine.serve()
        engine.said()
    assert len(engine.status().groups) == 21


def test_a_turn_that_comes_late_is_counted_with_how_late_it_was(engine: DrivenEngine) -> None:
    engine.start(PLAN)
    engine.pass_time(1.0)
    assert engine.status().lag.count == 0  # woken by the parent, for no deadline
    engine.pass_time(2.25)
    engine.pass_time(1.0)
    lag = engine.status().lag
    assert (lag.count, lag.sum, lag.maximum) == (2, 0.25, 0.25)
    assert [count for bound, count in lag.buckets if bound in (0.2, 0.5)] == [1, 2]


def test_the_clock_goes_on_and_is_not_the_wall_clock() -> None:
    first, second = boot_time(), boot_time()
    assert 0 < first <= second < 1e9


# An interface that does not send -------------------------------------------------------------------------------------


def test_adverts_that_do_not_leave_demote_every_group_until_they_leave_again(
    engine: DrivenEngine,
    far: socket.socket,
    wire: tuple[socket.socket, socket.socket],
    caplog: pytest.LogCaptureFixture,
) -> None:
    become_master(engine, far)
    with contextlib.suppress(BlockingIOError):
        while True:
            wire[0].send(b"")
    for _ in range(3):
        engine.pass_time(1.0)
        engine.tell(LEASED)
    group = engine.group()
    assert (group.role, group.demotion) == ("master", 240)
    assert [(each.name, each.weight) for each in group.demotions] == [("send-errors:eth0", 240)]
    fault = "adverts do not leave eth0: Resource temporarily unavailable"
    assert f"demoted by 240 for at most 30 s: {fault} (send-errors:eth0)" in caplog.messages
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with contextlib.suppress(BlockingIOError):
            while True:
                far.recv(4096)
        engine.pass_time(1.0)
        engine.tell(LEASED)
    assert (engine.group().demotion, engine.group().demotions) == (0, ())
    assert "the demotion send-errors:eth0 is over" in caplog.messages


# Groups that come, change and go -------------------------------------------------------------------------------------


def test_one_group_hands_over_and_is_gone_while_the_other_goes_on(engine: DrivenEngine, far: socket.socket) -> None:
    other = group_plan(name="db", vhid=43, vips=("10.0.0.201/32",))
    become_master(engine, far)
    engine.start(other)
    for _ in range(3):
        engine.pass_time(1.0)
        engine.tell(LEASED)
    engine.tell(Bound(group="db", error=None))
    sent(far)
    engine.said()
    engine.tell(StopGroup(group="db"))
    assert without_snapshots(engine.said()) == [Release(group="db")]
    assert sent(far) == []
    engine.tell(Released(group="db"))
    assert without_snapshots(engine.said()) == [GroupStopped(group="db")]
    assert sent(far) == ["advert 255"]
    engine.pass_time(1.0)
    assert [[role.name for role in each] for each in roles(engine.said())] == [["web"]]
    assert sent(far).count("advert 1") == 1
    engine.tell(LEASED)
    assert [group.name for group in engine.status().groups] == ["web"]
    engine.start(other)
    assert engine.group("db").role == "backup"


def test_a_group_that_holds_nothing_is_gone_at_once(engine: DrivenEngine, far: socket.socket) -> None:
    engine.start(PLAN)
    engine.said()
    engine.tell(StopGroup(group="web"))
    assert without_snapshots(engine.said()) == [GroupStopped(group="web")]
    assert sent(far) == []
    engine.pass_time(60.0)
    assert (roles(engine.said()), sent(far)) == ([()], [])
    engine.tell(Stop())
    assert engine.run() == 0


def test_a_group_that_is_asked_to_end_ends_too_when_the_engine_is(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    engine.tell(StopGroup(group="web"), Stop(), RELEASED)
    assert engine.run() == 0
    assert without_snapshots(engine.said()) == [RELEASE, GroupStopped(group="web"), Stopped()]


def test_a_master_takes_other_settings_and_stays_master(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    engine.pass_time(0.4)
    engine.tell(ChangeGroup(group=group_plan(vips=PLAN.vips, advskew=128, key=b"another key of 20 b.")))
    assert without_snapshots(engine.said()) == [GroupChanged(group="web"), BIND]
    frame = far.recv(4096)
    header = unpack(parse_ipv4(frame[14:]).payload)
    assert (header.advbase, header.advskew) == (1, 128)
    verifier = Authenticator(key=b"another key of 20 b.", vhid=42, addresses=VIPS)
    assert verifier.verify(header.counter, header.mac)
    engine.tell(LEASED)
    group = engine.group()
    assert (group.role, group.transitions, group.advskew) == ("master", 2, 128)
    sent(far)
    engine.pass_time(1.4)
    assert engine.said() == []
    assert "advert 1" not in sent(far)
    engine.pass_time(0.2)
    assert (without_snapshots(engine.said()), sent(far)) == ([RENEW], ["advert 1"])


def test_an_interface_gets_other_sockets_and_is_closed(engine: DrivenEngine, far: socket.socket) -> None:
    become_master(engine, far)
    near, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, other:
        other.setblocking(False)
        engine.parent.send(OpenInterface(interface="eth0", index=2, mac=MAC, up=True), [near.fileno()])
        engine.serve()
        engine.pass_time(1.0)
        assert (sent(far), sent(other)) == ([], ["advert 1"])
        engine.tell(LEASED, StopGroup(group="web"), RELEASED, CloseInterface(interface="eth0"))
        assert sent(other) == ["advert 255"]
        near.close()
        with pytest.raises(ConnectionError):
            other.send(b"")  # nobody holds the other end any more
    assert engine.status().interfaces == ()


def test_the_carrier_that_only_a_group_that_left_cared_for_demotes_nobody(
    engine: DrivenEngine, wire: tuple[socket.socket, socket.socket]
) -> None:
    engine.open(wire[0], interface="eth1", up=False)
    engine.start(PLAN)
    engine.start(group_plan(name="db", interface="eth1", vhid=43))
    assert engine.group("web").demotion > 0
    engine.tell(StopGroup(group="db"))
    assert engine.group("web").demotion == 0


def test_answers_about_the_vips_hold_a_starting_node_back_and_prove_a_takeover(
    engine: DrivenEngine, wire: tuple[socket.socket, socket.socket]
) -> None:
    theirs = bytes.fromhex("020000000099")
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        opened = OpenInterface(interface="eth0", index=2, mac=MAC, up=True, answers=(4,), gateways=("10.0.0.1",))
        engine.parent.send(opened, [wire[0].fileno(), near.fileno()])
        engine.serve()
        engine.start(PLAN)
        assert wire[1].recv(4096) == question(mac=MAC, target=VIPS[0])

        def answers(frame: bytes) -> None:
            far.send(b"noise")
            far.send(frame)
            engine.serve()

        (_, reply) = announcements(mac=theirs, address=VIPS[0])
        engine.pass_time(2.9)
        answers(reply)
        engine.pass_time(0.1)
        assert engine.group().held_back == (
            "10.0.0.200 is at 02:00:00:00:00:99, but nobody who has it is heard to be master"
        )
        engine.pass_time(2.4)
        engine.tell(LEASED)
        assert (engine.group().role, engine.group().proof, engine.group().held_back) == ("master", "unknown", None)
        answer = MAC + reply[6:28] + IPv4Address("10.0.0.1").packed + MAC + VIPS[0].packed
        answers(answer)
        assert engine.group().proof == "confirmed"
        answers(reply)
        assert (engine.group().proof, engine.group().contestants) == (
            "contested",
            ("10.0.0.200 at 02:00:00:00:00:99",),
        )
