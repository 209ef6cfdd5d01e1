"""The status as people and as programs read it."""

from __future__ import annotations

import json

import msgspec
import pytest

from sidecar.ipc.messages import (
    DemotionStatus,
    GroupStatus,
    InterfaceStatus,
    LagStatus,
    PeerStatus,
    SettingsStatus,
    StatusReply,
)
from sidecar.observe.status import as_json_text, as_line, as_text
from tests.fakes.statuses import group_status, status_reply

MASTER = GroupStatus(
    name="web",
    interface="eth0",
    vhid=42,
    vips=("10.0.0.200/32", "fd00::200/128"),
    role="master",
    since=1795408808.068,
    reason="master-down",
    detail="no advert from 10.0.0.12 for 3.004 s",
    master="10.0.0.11",
    source="10.0.0.11",
    transitions=2,
    advbase=1,
    advskew=100,
    adverts_sent=17,
    adverts_received=5,
    send_errors=0,
    drops={"bad-hmac": 3, "own-echo": 1},
)
BACKUP = msgspec.structs.replace(MASTER, name="db", vhid=7, role="backup", master="10.0.0.12", drops={})
ALONE = msgspec.structs.replace(BACKUP, name="new", role="init", master=None)
UP = InterfaceStatus(name="eth0", up=True, drops={})


def reply(*groups: GroupStatus, interfaces: tuple[InterfaceStatus, ...] = (UP,)) -> StatusReply:
    return StatusReply(token=9, node="node-1", groups=groups, interfaces=interfaces)


def test_a_master_in_text() -> None:
    assert as_text(reply(MASTER)) == (
        "web: MASTER  vhid 42 on eth0  10.0.0.200/32, fd00::200/128\n"
        "  since     2026-11-23T04:40:08.068Z  (master-down: no advert from 10.0.0.12 for 3.004 s)\n"
        "  master    10.0.0.11 (this node)\n"
        "  own       10.0.0.11  advbase 1  advskew 100\n"
        "  changes   2\n"
        "  adverts   sent 17  received 5  send errors 0\n"
        "  dropped   bad-hmac 3, own-echo 1"
    )


def test_what_others_did_to_the_vips_in_text() -> None:
    group = msgspec.structs.replace(MASTER, disturbances=2, disturbance="somebody deleted 10.0.0.200/32 on eth0")
    assert as_text(reply(group)).splitlines()[4] == (
        "  DISTURBED 2 times; the last: somebody deleted 10.0.0.200/32 on eth0"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"held_back": "10.0.0.200 is at a:b"}, "  HELD BACK 10.0.0.200 is at a:b"),
        ({"proof": "confirmed"}, "  announced and confirmed: a neighbour knows the way, and nobody else answers"),
        ({"proof": "unknown"}, "  announced but not confirmed: no neighbour answered"),
        (
            {"proof": "contested", "contestants": ("10.0.0.200 at a:b", "10.0.0.201 at a:c")},
            "  announced but CONTESTED: 10.0.0.200 at a:b, 10.0.0.201 at a:c",
        ),
    ],
)
def test_what_the_lan_says_of_the_vips_in_text(changes: dict[str, object], said: str) -> None:
    assert as_text(reply(msgspec.structs.replace(MASTER, **changes))).splitlines()[4] == said  # type: ignore[arg-type]


def test_both_families_and_demotion_in_text() -> None:
    link = DemotionStatus(name="link:eth1", weight=240, detail="eth1 has no carrier")
    lease = DemotionStatus(name="lease", weight=240, detail="refused", seconds=12.3)
    group = msgspec.structs.replace(
        MASTER, second_source="fe80::11", demotion=255, demotions=(link, lease), rivals=("10.0.0.12",)
    )
    lines = as_text(reply(group)).splitlines()
    assert lines[3:7] == [
        "  own       10.0.0.11, fe80::11  advbase 1  advskew 100",
        "  demoted   by 240  (link:eth1: eth1 has no carrier)",
        "  demoted   by 240  (lease: refused), for 12 s more",
        "  RIVAL     10.0.0.12 is master too and goes on",
    ]


def test_who_is_master_and_nothing_dropped_in_text() -> None:
    lines = as_text(reply(BACKUP, ALONE)).splitlines()
    assert len(lines) == 14
    assert lines[2] == "  master    10.0.0.12"
    assert lines[6] == "  dropped   none"
    assert lines[9] == "  master    nobody known"


def test_an_interface_is_mentioned_only_where_something_is_to_be_said() -> None:
    down = InterfaceStatus(name="eth1", up=False, drops={"unknown-vhid": 12, "bad-ttl": 1})
    assert as_text(reply(interfaces=(UP, down))) == (
        "interface eth1: no carrier\ninterface eth1: packets for no group of ours: unknown-vhid 12, bad-ttl 1"
    )
    assert as_text(reply()) == ""


LAG = LagStatus(buckets=((0.0005, 9_000), (0.001, 10_130), (0.01, 10_230)), count=10_231, sum=2.5, maximum=0.0122)


@pytest.mark.parametrize(
    ("lag", "line"),
    [
        (LAG, "loop lag: 99 % under 1 ms, at most 12.2 ms in 10,231 wake-ups"),
        (
            LagStatus(buckets=((0.0005, 99),), count=100, sum=1.0, maximum=0.25),
            "loop lag: 99 % under 0.5 ms, at most 250.0 ms in 100 wake-ups",
        ),
        (LagStatus(buckets=((1.0, 98),), count=100, maximum=7.5), "loop lag: at most 7500.0 ms in 100 wake-ups"),
    ],
)
def test_how_late_the_loop_was_in_text(lag: LagStatus, line: str) -> None:
    assert as_text(msgspec.structs.replace(reply(), lag=lag)) == line


def test_how_late_the_loop_was_in_json() -> None:
    assert json.loads(as_json_text(msgspec.structs.replace(reply(), lag=LAG)))["lag"] == {
        "buckets": [[0.0005, 9_000], [0.001, 10_130], [0.01, 10_230]],
        "count": 10_231,
        "sum": 2.5,
        "maximum": 0.0122,
    }


def test_the_json_has_every_field_and_readable_times() -> None:
    document = json.loads(as_json_text(reply(MASTER, BACKUP)))
    assert document.keys() == {"node", "settings", "groups", "interfaces", "lag"}
    assert document["node"] == "node-1"
    assert document["interfaces"] == [{"name": "eth0", "up": True, "drops": {}, "peers": []}]
    assert [group["name"] for group in document["groups"]] == ["web", "db"]
    expected = msgspec.to_builtins(MASTER, builtin_types=()) | {
        "since": "2026-11-23T04:40:08.068Z",
        "vips": ["10.0.0.200/32", "fd00::200/128"],
        "peers": [],
        "demotions": [],
        "rivals": [],
        "history": [],
        "contestants": [],
    }
    assert document["groups"][0] == expected


def test_settings_that_are_refused_are_told_with_their_mistakes() -> None:
    settings = SettingsStatus(
        generation=3, applied_at=1795408840.0, refused_since=1795408850.0, errors=("vhid: 300 is out of range",)
    )
    told = msgspec.structs.replace(reply(MASTER), settings=settings)
    assert as_text(told).splitlines()[-3:] == [
        "settings: changed 2 times, the last 2026-11-23T04:40:40.000Z",
        "settings: newer ones are refused since 2026-11-23T04:40:50.000Z",
        "  REFUSED   vhid: 300 is out of range",
    ]
    assert json.loads(as_json_text(told))["settings"] == {
        "generation": 3,
        "applied_at": "2026-11-23T04:40:40.000Z",
        "refused_since": "2026-11-23T04:40:50.000Z",
        "refused_until": None,
        "errors": ["vhid: 300 is out of range"],
    }
    good = SettingsStatus(generation=4, applied_at=1795408840.0, refused_until=1795408860.0)
    found = json.loads(as_json_text(msgspec.structs.replace(told, settings=good)))["settings"]
    assert (found["refused_since"], found["refused_until"]) == (None, "2026-11-23T04:41:00.000Z")
    first = SettingsStatus(generation=1, applied_at=1795408840.0)
    assert "settings" not in as_text(msgspec.structs.replace(reply(MASTER), settings=first))


def test_on_a_terminal_what_matters_has_a_colour() -> None:
    dark = InterfaceStatus(name="eth1", up=False, drops={})
    text = as_text(
        status_reply(group_status(rivals=("10.0.0.66",)), interfaces=(dark,)), lambda text, what: f"<{what} {text}>"
    )
    for words in (
        "web: <master MASTER>  vhid",
        "<init demoted>   by 240",
        "<bad RIVAL>     10.0.0.66",
        "<bad no carrier>",
    ):
        assert words in text


def test_the_json_tells_the_last_transitions_in_their_order() -> None:
    (group,) = json.loads(as_json_text(status_reply()))["groups"]
    assert [(each["at"], each["after"], each["reason"]) for each in group["history"]] == [
        ("2026-11-23T04:40:05.000Z", "backup", "start"),
        ("2026-11-23T04:40:08.068Z", "master", "master-down"),
    ]


MEMBER = PeerStatus(
    address="10.0.0.12", password=2, adverts=7, heard_at=1795408808.0689, advbase=1, advskew=50, demotion=0, drops={}
)
STRANGER = PeerStatus(
    address="10.0.0.66", password=0, adverts=0, heard_at=None, advbase=None, advskew=None, demotion=None,
    drops={"bad-hmac": 3},
)  # fmt: skip


def test_peers_are_told_with_the_password_that_they_use() -> None:
    shown = as_text(reply(msgspec.structs.replace(MASTER, peers=(MEMBER, STRANGER))))
    assert [line for line in shown.splitlines() if line.startswith("  peer")] == [
        "  peer      10.0.0.12  7 adverts, the last 2026-11-23T04:40:08.068Z: "
        "advbase 1 advskew 50 demotion 0, password 2",
        "  peer      10.0.0.66  no valid advert; dropped: bad-hmac 3",
    ]


def test_the_json_tells_when_a_peer_was_heard() -> None:
    document = json.loads(as_json_text(reply(msgspec.structs.replace(MASTER, peers=(MEMBER, STRANGER)))))
    assert [peer["heard_at"] for peer in document["groups"][0]["peers"]] == ["2026-11-23T04:40:08.068Z", None]


def test_a_group_in_one_line() -> None:
    assert as_line(MASTER) == (
        "MASTER on eth0 vhid 42 (10.0.0.200/32, fd00::200/128) since 2026-11-23T04:40:08.068Z: "
        "no advert from 10.0.0.12 for 3.004 s"
    )
    assert as_line(msgspec.structs.replace(BACKUP, detail="listening", demotion=240)) == (
        "BACKUP on eth0 vhid 7 (10.0.0.200/32, fd00::200/128) since 2026-11-23T04:40:08.068Z: listening, "
        "the master is 10.0.0.12, demoted by 240"
    )
