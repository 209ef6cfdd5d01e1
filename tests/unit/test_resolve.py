from __future__ import annotations

from ipaddress import IPv4Address, ip_interface

import pytest

from sidecar.config.document import parse
from sidecar.config.file import read_file
from sidecar.config.layers import Layer, Problems, check
from sidecar.config.model import Interface, Settings, env_name
from sidecar.config.resolve import Group, Placed, cautions, groups, place, plan_of, refuse_clashes
from sidecar.ipc.plan import PathPlan
from tests.fakes.node import INTERFACES, LISTED


def env(**given: str) -> Layer:
    problems = Problems()
    layer = check(Settings, given, labels=env_name, problems=problems)
    assert problems.lines == ()
    return layer


def layered(text: str = "", **given: str) -> tuple[tuple[Group, ...], Problems]:
    problems = Problems()
    file = read_file(parse(text.encode()), path="f", node="n1", problems=problems)
    return groups(file, env(**given), problems), problems


def placed(text: str = "", **given: str) -> tuple[list[Placed], list[str]]:
    every, problems = layered(text, **given)
    found = [place(group, INTERFACES, problems) for group in every]
    refuse_clashes(found, problems)
    return found, list(problems.lines)


def test_each_layer_over_the_weaker_ones() -> None:
    text = """
advbase: 1
advskew: 1
dead_ratio: 1
preempt: on
multicast_group: 224.0.0.1
groups:
- {name: web, vhid: 1, advskew: 2, dead_ratio: 2, preempt: off, multicast_group: 224.0.0.2}
- {name: db, vhid: 2}
nodes:
  n1:
    dead_ratio: 3
    preempt: on
    multicast_group: 224.0.0.3
    groups: {web: {preempt: off, multicast_group: 224.0.0.4}}
"""
    (web, db), problems = layered(text, multicast_group="224.0.0.5")
    assert problems.lines == ()
    assert (web.name, web.keys.vhid) == ("web", 1)
    assert (web.keys.advbase, web.keys.advskew, web.keys.dead_ratio) == (1, 2, 3)
    assert (web.keys.preempt, web.keys.multicast_group) == (False, IPv4Address("224.0.0.5"))
    assert (db.keys.advskew, db.keys.dead_ratio, db.keys.preempt) == (1, 3, True)
    assert (web.label("multicast_group"), web.label("advskew")) == ("CARP_MULTICAST_GROUP", "f: groups[0].advskew")
    assert (web.label("vips"), db.label("preempt")) == ("f: groups[0].vips", "f: nodes.n1.preempt")


def test_one_group_by_the_environment_is_named_default() -> None:
    (group,), _ = layered(vhid="1")
    assert (group.name, group.label("vhid"), group.label("vips")) == ("default", "CARP_VHID", "CARP_VIPS")


@pytest.mark.parametrize("key", ["vhid", "vips"])
def test_one_vhid_or_vip_cannot_be_for_several_groups(key: str) -> None:
    text = "groups: [{name: a, vhid: 1, vips: 10.0.0.8}, {name: b, vhid: 2, vips: 10.0.0.9}]"
    (first, _), problems = layered(text, **{key: "10" if key == "vhid" else "10.0.0.200"})
    assert problems.lines == (
        f"CARP_{key.upper()}: would give all 2 groups of f the same {key}; "
        f"unset it and set {key} in each entry of groups:",
    )
    assert first.keys.vhid == 1


def test_one_vhid_may_be_for_one_group() -> None:
    (group,), problems = layered("groups: [{name: a, vhid: 1}]", vhid="2")
    assert (problems.lines, group.keys.vhid) == ((), 2)


def test_the_interface_that_holds_the_first_vip_and_its_primary_address() -> None:
    (found,), lines = placed(vhid="1", vips="192.168.1.200,10.0.0.200")
    assert lines == []
    assert found.interface is not None
    assert (found.interface.name, found.sources) == ("eth1", {4: IPv4Address("192.168.1.5")})


def test_a_named_interface_need_not_hold_the_vip() -> None:
    (found,), lines = placed(vhid="1", vips="172.16.0.1", interface="eth0")
    assert (lines, found.sources) == ([], {4: IPv4Address("10.0.0.11")})


def test_an_interface_without_ipv4_does_with_a_given_source() -> None:
    (found,), lines = placed(vhid="1", vips="172.16.0.1", interface="bare", source_address="172.16.0.9")
    assert (lines, found.sources) == ([], {4: IPv4Address("172.16.0.9")})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"interface": "eth9"}, f"CARP_INTERFACE: 'eth9' is no interface of this node; use one of: {LISTED}"),
        (
            {"vips": "8.8.8.8"},
            f"CARP_INTERFACE: not set, and 8.8.8.8 is in no interface's subnet; use one of: {LISTED}",
        ),
        (
            {"vips": "fe80::9"},
            "CARP_INTERFACE: not set, and fe80::9 is in the subnet of several interfaces; use one of: "
            "eth0 (10.0.0.11/24, 10.0.0.12/24, fe80::1/64), eth1 (192.168.1.5/24, fe80::2/64)",
        ),
        (
            {"interface": "bare"},
            "CARP_SOURCE_ADDRESS: not set, and bare has no IPv4 address to send adverts from; "
            "give bare an address, or set this one",
        ),
        (
            {"vips": "10.0.0.12"},
            "CARP_VIPS: 10.0.0.12 is this node's own address (on eth0); use an address that no node has, "
            "or, if a killed ucarp left it there, remove it: ip addr del 10.0.0.12/24 dev eth0",
        ),
        (
            {"vips": "10.0.0.200,192.168.1.5/24"},
            "CARP_VIPS: 192.168.1.5 is this node's own address (on eth1); use an address that no node has, "
            "or, if a killed ucarp left it there, remove it: ip addr del 192.168.1.5/24 dev eth1",
        ),
        (
            {"vips": "10.0.0.255"},
            "CARP_VIPS: 10.0.0.255 is the broadcast address of 10.0.0.0/24 (on eth0); use the address of one host",
        ),
        (
            {"source_address": "10.0.0.200"},
            "CARP_SOURCE_ADDRESS: 10.0.0.200 is a VIP; use an address that stays on this node",
        ),
    ],
)
def test_what_this_node_cannot_do(given: dict[str, str], line: str) -> None:
    assert placed(**{"vhid": "1", "vips": "10.0.0.200"} | given)[1] == [line]


def test_a_node_with_a_hundred_interfaces_lists_some() -> None:
    problems = Problems()
    (group,), _ = layered(vhid="1", vips="10.0.0.1", interface="x")
    place(group, [Interface(f"cali{n}", ()) for n in range(100)], problems)
    place(group, [], problems)
    many, none = problems.lines
    assert many.endswith("cali10 (no address), cali11 (no address) and 88 more")
    assert none.endswith("use one of: none, this node has no network interface")


def test_missing_and_empty_settings() -> None:
    _, lines = placed("groups: [{name: a, vhid: ''}]")
    assert lines == [
        "f: groups[0].vhid: is empty; use a whole number from 1 to 255, the same on every node of the group",
        "f: groups[0].vips: not set; use address[/prefix], IPv4 or IPv6, several with commas between them, "
        "such as 10.0.0.200",
    ]


TWO = "groups: [{name: a, vhid: 1, vips: 10.0.0.8}, {name: b, vhid: 1, vips: 10.0.0.9%s}]"


def test_two_groups_with_one_vhid_on_one_interface() -> None:
    assert placed(TWO % "")[1] == [
        "f: groups[1].vhid: 1 on eth0 belongs to group 'a' already; give each group of an interface its own vhid"
    ]


def test_one_vhid_on_two_interfaces_is_two_groups() -> None:
    assert placed(TWO % ", interface: eth1")[1] == []


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"transport": "broadcast"}, []),
        ({"transport": "unicast", "peers": "10.0.0.11,10.0.0.12"}, []),
        (
            {"transport": "unicast", "peers": "10.0.0.11"},  # this node's own
            [
                "CARP_PEERS: names no other node by IPv4 address, which unicast with CARP_ADDRESS_FAMILY=ipv4 needs; "
                "use the source addresses of the other nodes, with commas between them"
            ],
        ),
        (
            {"transport": "unicast", "peers": "10.0.0.13,fd00::9"},
            [
                "CARP_PEERS: fd00::9 is an IPv6 address, with CARP_ADDRESS_FAMILY=ipv4 no advert goes there; "
                "take it out, or change CARP_ADDRESS_FAMILY"
            ],
        ),
        (
            {"transport": "broadcast", "address_family": "ipv6"},
            [
                "CARP_TRANSPORT: broadcast, which IPv6 does not have, with CARP_ADDRESS_FAMILY=ipv6; "
                "use multicast, or CARP_ADDRESS_FAMILY=ipv4"
            ],
        ),
        (
            {"transport": "unicast", "peers": "10.0.0.13,10.0.0.200"},
            [
                "CARP_PEERS: 10.0.0.200 is a VIP of this group, not a node's own address; "
                "take it out, or name the node by an address that stays there"
            ],
        ),
        (
            {"peers": "10.0.0.12"},
            [
                "CARP_PEERS: is set, but with CARP_TRANSPORT=multicast nobody is addressed one by one; "
                "unset it, or set CARP_TRANSPORT=unicast"
            ],
        ),
    ],
)
def test_peers_go_with_unicast(given: dict[str, str], lines: list[str]) -> None:
    (found,), problems = placed(vhid="7", vips="10.0.0.200", **given)
    assert problems == lines
    if not lines:
        plan = plan_of(found, [b"secret"])
        assert plan is not None
        assert [path.peers for path in plan.paths] == [("10.0.0.12",) if "peers" in given else ()]


def test_what_nothing_takes_off_is_not_kept() -> None:
    _, problems = placed(vhid="7", vips="10.0.0.200", on_exit="keep", lease="off")
    assert problems == [
        "CARP_ON_EXIT: keep, but with CARP_LEASE=off nothing would ever take the VIPs off; "
        "use handover, or CARP_LEASE=auto"
    ]
    (found,), problems = placed(vhid="7", vips="10.0.0.200", on_exit="keep", lease="address")
    plan = plan_of(found, [b"secret"])
    assert plan is not None
    assert (problems, plan.on_exit, plan.lease) == ([], "keep", "address")


@pytest.mark.parametrize(
    ("family", "given", "paths"),
    [
        ("ipv4", {}, [PathPlan(source="10.0.0.11", multicast_group="224.0.0.18")]),
        ("ipv6", {}, [PathPlan(source="fe80::1", multicast_group="ff02::12")]),
        (
            "both",
            {"source_address6": "fd00::11", "multicast_group6": "ff05::12"},
            [
                PathPlan(source="10.0.0.11", multicast_group="224.0.0.18"),
                PathPlan(source="fd00::11", multicast_group="ff05::12"),
            ],
        ),
        (
            "both",  # the list is the same on all nodes: what is ours in it is our source
            {"transport": "unicast", "peers": "10.0.0.12,10.0.0.13,fe80::1,fe80::2"},
            [
                PathPlan(source="10.0.0.12", multicast_group="224.0.0.18", peers=("10.0.0.13",)),
                PathPlan(source="fe80::1", multicast_group="ff02::12", peers=("fe80::2",)),
            ],
        ),
    ],
)
def test_each_family_has_its_path(family: str, given: dict[str, str], paths: list[PathPlan]) -> None:
    (found,), problems = placed(vhid="7", vips="10.0.0.200", address_family=family, **given)
    assert problems == []
    plan = plan_of(found, [b"secret"])
    assert plan is not None
    assert list(plan.paths) == paths


def test_a_family_that_the_interface_does_not_have() -> None:
    (found,), problems = placed(vhid="7", vips="10.0.0.200", interface="bare", address_family="both")
    assert problems == [
        f"CARP_SOURCE_ADDRESS{suffix}: not set, and bare has no IPv{version} address to send adverts from; "
        "give bare an address, or set this one"
        for suffix, version in (("", 4), ("6", 6))
    ]
    assert plan_of(found, [b"secret"]) is None


def test_two_groups_with_one_vip() -> None:
    text = "groups: [{name: a, vhid: 1, vips: 10.0.0.8}, {name: b, vhid: 2, interface: eth1, vips: 10.0.0.8/24}]"
    assert placed(text)[1] == [
        "f: groups[1].vips: 10.0.0.8 belongs to group 'a' already; name each address in one group only"
    ]


def test_one_link_local_vip_on_two_links() -> None:
    text = (
        "groups: [{name: a, interface: eth0, vhid: 1, vips: fe80::9}, {name: b, interface: %s, vhid: 2, vips: fe80::9}]"
    )
    assert placed(text % "eth1")[1] == []
    assert len(placed(text % "eth0")[1]) == 1


def test_the_plan() -> None:
    (found,), _ = placed(vhid="7", vips="10.0.0.200,fd00::1/64", advskew="3", preempt="on")
    plan = plan_of(found, [b"secret"])
    assert plan is not None
    assert (plan.name, plan.interface, plan.vhid) == ("default", "eth0", 7)
    assert plan.vips == ("10.0.0.200/32", "fd00::1/64")
    assert (plan.advbase, plan.advskew, plan.dead_ratio, plan.preempt) == (1, 3, 3, True)
    assert plan.key == b"secret".ljust(20, b"\0")
    assert plan.paths == (PathPlan(source="10.0.0.11", multicast_group="224.0.0.18"),)
    assert plan_of(found, []) is None


@pytest.mark.parametrize(
    ("given", "password", "warning"),
    [
        ({}, b"x" * 19, None),
        (
            {"password_file": "/p"},
            b"x" * 20,
            "CARP_PASSWORD_FILE: the password has 20 bytes where ucarp and the BSDs' ifconfig take at most 19; "
            "use a shorter one if any of them is to join the group",
        ),
        (
            {"password": "x\n"},
            b"x\n",
            "CARP_PASSWORD: the password begins or ends with white space; make sure that it does so on every node",
        ),
        (
            {"source_address": "10.0.0.77"},
            b"x",
            "CARP_SOURCE_ADDRESS: 10.0.0.77 is not an address of eth0; peers may drop the adverts",
        ),
        (
            {"source_address6": "fe80::1"},
            b"x",
            "CARP_SOURCE_ADDRESS6: has no effect with CARP_ADDRESS_FAMILY=ipv4",
        ),
        (
            {"multicast_group6": "ff02::13", "address_family": "ipv4"},
            b"x",
            "CARP_MULTICAST_GROUP6: has no effect with CARP_ADDRESS_FAMILY=ipv4",
        ),
        (
            {"source_address": "10.0.0.11", "address_family": "ipv6"},
            b"x",
            "CARP_SOURCE_ADDRESS: has no effect with CARP_ADDRESS_FAMILY=ipv6",
        ),
        (
            {"multicast_group": "224.0.0.19", "address_family": "ipv6"},
            b"x",
            "CARP_MULTICAST_GROUP: has no effect with CARP_ADDRESS_FAMILY=ipv6",
        ),
        (
            {"multicast_group": "224.0.0.19", "multicast_group6": "ff02::13", "address_family": "both"},
            b"x",
            None,
        ),
        ({"clock_skew": "30", "replay": "compat"}, b"x", "CARP_CLOCK_SKEW: has no effect with CARP_REPLAY=compat"),
        ({"clock_skew": "30"}, b"x", None),
        ({"preempt_delay": "30s"}, b"x", "CARP_PREEMPT_DELAY: has no effect unless CARP_PREEMPT is true"),
        ({"preempt_delay": "30s", "preempt": "yes"}, b"x", None),
        ({"preempt_delay": "0s", "clock_skew": "60", "replay": "compat"}, b"x", None),
    ],
)
def test_cautions(given: dict[str, str], password: bytes, warning: str | None) -> None:
    (found,), lines = placed(**{"vhid": "1", "vips": "10.0.0.200"} | given)
    assert lines == []
    assert cautions(found, [password]) == (() if warning is None else (warning,))


def test_a_dead_ratio_of_one_is_cautioned_against() -> None:
    (found,), _ = placed(vhid="1", vips="10.0.0.200", dead_ratio="1")
    assert cautions(found, [b"x"])[0] == (
        "CARP_DEAD_RATIO: with 1, a single late advert is a takeover; use 3 if in doubt"
    )


def test_a_leased_vip_that_was_left_out_is_not_our_own() -> None:
    problems = Problems()
    (group,), _ = layered(vhid="1", vips="10.0.0.200/24")
    place(group, [Interface("eth0", (ip_interface("10.0.0.200/24"),))], problems)
    assert len(problems.lines) == 1
    assert "this node's own address" in problems.lines[0]
