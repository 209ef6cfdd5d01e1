"""Each verdict of the doctor, from facts as plain values."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from sidecar.capture.vrrp import WireProtocol
from sidecar.doctor.checks import Finding, Verdict, judge, settings_findings, worst
from sidecar.doctor.facts import Facts, Heard, Host, Nic, Right
from tests.fakes.plans import group_plan

WELL = Host(
    missing_capabilities=(),
    cutoff=None,
    lifetimes=None,
    clock_synchronised=True,
    realtime=None,
    cpu_cores=None,
    ipvs=None,
)
NIC = Nic(
    name="eth0",
    up=True,
    addresses=(ip_interface("10.0.0.11/24"), ip_interface("fd00::11/64")),
    arp_ignore=0,
    rp_filter=0,
)
MASTER = Heard(interface="eth0", protocol=WireProtocol.CARP, vhid=42, source="10.0.0.12", authentic=True)
VIP = ip_address("10.0.0.200")
PASS, WARN, FAIL = Verdict.PASS, Verdict.WARN, Verdict.FAIL


def facts(*, host: Any = None, nic: Any = None, group: Any = None, **changes: Any) -> Facts:
    """A node on which all is well, with fields of it changed; the sidecar runs as backup and hears a master."""
    whole = Facts(
        host=replace(WELL, **host or {}),
        groups=(group_plan(replay="strict", **group or {}),),
        nics={"eth0": replace(NIC, **nic or {})},
        heard=(MASTER,),
        seconds=4,
        owners={VIP: "02:00:00:00:00:02"},
        roles={"web": "backup"},
        rights=(Right(verb="get", resource="pods", granted=True),),
    )
    return replace(whole, **changes)


def the(check: str, looked_at: Facts) -> Finding:
    (finding,) = (each for each in judge(looked_at) if each.check == check)
    return finding


def test_where_all_is_well_every_line_passes_and_none_has_a_remedy() -> None:
    findings = judge(facts())
    assert worst(findings) is PASS
    assert [each.remedy for each in findings if each.remedy] == []
    assert {each.check for each in findings} == {
        *("privileges", "kernel lifetimes", "nftables", "clock", "CPU limit", "scheduling"),
        *("others on the LAN", "Kubernetes"),
        *(f"web: {what}" for what in ("interface", "reverse path", "password", "adverts", "ARP for 10.0.0.200")),
        *(f"web: {vip}" for vip in ("10.0.0.200", "fd00::200")),
        *(f"web: owner of {vip}" for vip in ("10.0.0.200", "fd00::200")),
    }


def test_a_virtual_mac_is_no_leftover_where_a_sidecar_runs() -> None:
    assert "virtual MAC" not in {each.check for each in judge(facts(leftovers=("carp42",)))}


BROKEN: list[tuple[str, Verdict, str, dict[str, Any]]] = [
    ("privileges", FAIL, "no NET_RAW", {"host": {"missing_capabilities": ("NET_RAW",)}}),
    ("kernel lifetimes", FAIL, "still there", {"host": {"lifetimes": "it was still there"}}),
    ("nftables", PASS, "enough for an advbase", {"host": {"cutoff": "the kernel has no nf_tables"}}),
    ("nftables", WARN, "too coarse for web", {"host": {"cutoff": "no nf_tables"}, "group": {"advbase": 0}}),
    ("nftables", PASS, "whole seconds", {"host": {"cutoff": "no"}, "group": {"advbase": 0, "lease": "address"}}),
    ("clock", WARN, "not synchronised", {"host": {"clock_synchronised": False}}),
    ("clock", WARN, "not known", {"host": {"clock_synchronised": None}}),
    ("CPU limit", WARN, "0.5 cores", {"host": {"cpu_cores": 0.5}}),
    ("scheduling", PASS, "only an advbase of 0", {"host": {"realtime": "no"}}),
    ("scheduling", WARN, "for web: no; what is busy", {"host": {"realtime": "no"}, "group": {"advbase": 0}}),
    ("virtual MAC", WARN, "carp42 is what a sidecar left", {"leftovers": ("carp42",), "roles": None}),
    ("web: interface", FAIL, "eth0 is down", {"nic": {"up": False}}),
    ("web: interface", WARN, "10.0.0.9 is not an address of eth0", {"group": {"source": "10.0.0.9"}}),
    ("web: 192.0.2.1", WARN, "in no subnet of eth0", {"group": {"vips": ("192.0.2.1/32",)}}),
    ("web: 192.0.2.1", PASS, "brings its subnet", {"group": {"vips": ("192.0.2.1/24",)}}),
    ("web: ARP for 10.0.0.200", FAIL, "arp_ignore is 8", {"nic": {"arp_ignore": 8}}),
    ("web: ARP for 10.0.0.200", FAIL, "arp_ignore is 2", {"nic": {"arp_ignore": 2}}),
    ("web: ARP for 10.0.0.200", PASS, "", {"nic": {"arp_ignore": 2}, "group": {"vips": ("10.0.0.200/24",)}}),
    ("web: ARP for 10.0.0.200", PASS, "arp_ignore 1", {"nic": {"arp_ignore": 1}, "host": {"ipvs": frozenset({VIP})}}),
    ("web: ARP for 10.0.0.200", WARN, "Service addresses", {"host": {"ipvs": frozenset()}}),
    ("web: ARP for 10.0.0.200", FAIL, "every node answers", {"host": {"ipvs": frozenset({VIP})}}),
    ("web: owner of 10.0.0.200", FAIL, "has it, and no master", {"heard": ()}),
    ("web: owner of 10.0.0.200", FAIL, "answers as well", {"roles": {"web": "master"}, "heard": ()}),
    ("web: owner of 10.0.0.200", PASS, "no other machine", {"owners": {}, "roles": None}),
    ("web: owner of 10.0.0.200", PASS, "this node", {"owners": {}, "roles": {"web": "master"}}),
    ("web: reverse path", PASS, "where its clients are", {"nic": {"rp_filter": 1}}),
    ("web: reverse path", WARN, "dropped", {"nic": {"rp_filter": 1}, "group": {"vips": ("192.0.2.1/32",)}}),
    ("web: password", WARN, "guessed", {"group": {"key": b"short".ljust(20, b"\0")}}),
    ("web: password", PASS, "20 bytes", {"group": {"key": b"x" * 20}}),
    ("web: adverts", PASS, "arrive from 10.0.0.12", {"roles": None}),
    ("web: adverts", WARN, "right for the first node only", {"roles": None, "heard": (), "owners": {}}),
    ("web: adverts", FAIL, "heard no master in 4 s, where 3.0 s make a new one", {"heard": (), "owners": {}}),
    ("web: adverts", WARN, "less than the time between two", {"heard": (), "owners": {}, "group": {"advbase": 20}}),
    ("web: adverts", WARN, "", {"heard": (), "owners": {}, "group": {"advbase": 20}, "roles": None}),
    ("web: adverts", FAIL, "60.0 s", {"heard": (), "owners": {}, "group": {"advbase": 20}, "seconds": 42}),
    ("web: adverts", PASS, "is master and heard no other", {"roles": {"web": "master"}, "heard": (), "owners": {}}),
    ("web: adverts", FAIL, "10.0.0.12 is master as well", {"roles": {"web": "master"}, "owners": {}}),
    ("web: adverts", FAIL, "cannot be listened to", {"wire": "the LAN cannot be listened to: not permitted"}),
    ("web: vhid", FAIL, "another password", {"heard": (MASTER, replace(MASTER, source="10.0.0.3", authentic=False))}),
    ("web: vhid", WARN, "VRRPv2 router", {"heard": (MASTER, replace(MASTER, protocol=WireProtocol.VRRP2))}),
    ("others on the LAN", PASS, "vhid 7 of 10.0.0.12 on eth0", {"heard": (MASTER, replace(MASTER, vhid=7))}),
    (
        "others on the LAN",
        PASS,
        "VRRPv3 router 7 of 10.0.0.12 on eth0",
        {"heard": (MASTER, replace(MASTER, vhid=7, protocol=WireProtocol.VRRP3))},
    ),
    ("Kubernetes", WARN, "cannot be asked", {"rights": "the API server cannot be asked: refused"}),
    (
        "Kubernetes",
        FAIL,
        "no right to patch pods",
        {
            "rights": (
                Right(verb="get", resource="pods", granted=True),
                Right(verb="patch", resource="pods", granted=False),
            )
        },
    ),
]


@pytest.mark.parametrize(("check", "verdict", "text", "changes"), BROKEN)
def test_each_verdict(check: str, verdict: Verdict, text: str, changes: dict[str, Any]) -> None:
    finding = the(check, facts(**changes))
    assert finding.verdict is verdict, finding
    assert text in finding.text
    assert bool(finding.remedy) is (verdict is not PASS)


def test_in_compat_a_long_password_and_a_wrong_clock_mean_something_else() -> None:
    compat = facts(host={"clock_synchronised": False}, groups=(group_plan(replay="compat", key=b"x" * 20),))
    assert the("clock", compat).verdict is PASS
    assert the("web: password", compat).verdict is WARN


def test_no_finding_shows_a_password() -> None:
    key = b"swordfish".ljust(20, b"\0")
    assert not [each for each in judge(facts(group={"key": key})) if "swordfish" in f"{each}"]


def test_without_a_mirror_and_without_settings_only_the_machine_is_judged() -> None:
    assert {each.check for each in judge(Facts(host=WELL))} == {
        *("privileges", "kernel lifetimes", "nftables", "clock", "CPU limit", "scheduling")
    }


def test_the_settings_lines_keep_their_own_remedies() -> None:
    assert [each.verdict for each in settings_findings(["CARP_VHID: 0 is out of range; use 1 to 255"], ["b"])] == [
        FAIL,
        WARN,
    ]
    assert [each.text for each in settings_findings([], [])] == ["valid"]


def test_the_worst_verdict_is_that_of_all() -> None:
    findings = [Finding("a", verdict, "") for verdict in (WARN, FAIL, PASS)]
    assert worst(findings) is FAIL
    assert worst(findings[::2]) is WARN
    assert worst([]) is PASS
