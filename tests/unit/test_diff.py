"""What follows from changed settings: nothing for those who are not concerned, the gentlest thing for the others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.ipc.plan import GroupPlan, MirrorPlan, PathPlan, Plan
from sidecar.live.diff import IN_PLACE, difference, refusals
from tests.fakes.plans import PATH6, group_plan, node_plan

WEB, DB = group_plan(), group_plan(name="db", vhid=43, vips=("10.0.0.201/32",))
OTHER: dict[str, Any] = {
    "interface": "eth1",
    "vhid": 44,
    "vips": ("10.0.0.202/32",),
    "paths": (PATH6,),
    "key": b"another password    ",
    "accepted_keys": (b"another password    ",),
    "advbase": 2,
    "advskew": 100,
    "dead_ratio": 5,
    "preempt": True,
    "preempt_delay": 1.0,
    "startup_delay": 1.0,
    "transport": "broadcast",
    "replay": "strict",
    "clock_skew": 5.0,
    "ignore_link": True,
    "lease": "address",
    "on_exit": "keep",
    "mac": "virtual",
    "up_command": ("/bin/true",),
    "down_command": ("/bin/true",),
    "neutral": True,
    "shutdown": False,
    "xparam": "x",
    "mirror": MirrorPlan(target_selector="app=web"),
}


def names(groups: Sequence[GroupPlan]) -> list[str]:
    return [group.name for group in groups]


def test_the_same_plan_is_no_change() -> None:
    plan = node_plan(WEB, DB)
    found = difference(plan, replace(plan, files={"/etc/x": "another stamp"}))
    assert found.nothing
    assert str(found) == "no group is concerned"


@pytest.mark.parametrize("field", [field for field in GroupPlan.__struct_fields__ if field != "name"])
def test_each_setting_of_a_group_is_taken_over_in_place_or_by_a_new_start(field: str) -> None:
    """A field that is not known here counts as one that takes a new start: that is always right."""
    value = OTHER[field] if field in OTHER else object()
    changed = replace(WEB, **{field: value})
    found = difference(node_plan(WEB, DB), node_plan(changed, DB))
    assert not found.nothing
    if field in IN_PLACE - {"paths"}:
        assert (names(found.changed), found.stopped, found.started) == (["web"], (), ())
    else:
        assert (names(found.restarted), names(found.stopped), found.changed) == (["web"], ["web"], ())
        assert found.stopped == (WEB,)
    assert (found.removed, found.added) == ((), ())


def test_of_the_paths_the_peers_are_taken_over_in_place() -> None:
    unicast = group_plan(transport="unicast", peers=("10.0.0.12",))
    wider = group_plan(transport="unicast", peers=("10.0.0.12", "10.0.0.13"))
    assert names(difference(node_plan(unicast), node_plan(wider)).changed) == ["web"]
    (path,) = wider.paths
    moved = replace(wider, paths=(PathPlan(source="10.0.0.99", multicast_group=path.multicast_group),))
    assert names(difference(node_plan(unicast), node_plan(moved)).restarted) == ["web"]


def test_groups_come_and_go() -> None:
    found = difference(node_plan(WEB), node_plan(DB))
    assert (found.removed, names(found.added), found.stopped) == (("web",), ["db"], (WEB,))
    assert str(found) == "removed: web; added: db"
    assert not found.others


def test_what_is_beside_the_groups_concerns_no_group() -> None:
    found = difference(node_plan(WEB), node_plan(WEB, http_listen="127.0.0.1:9000"))
    assert (found.nothing, found.others, str(found)) == (False, True, "no group is concerned")


def test_what_cannot_change_is_refused_by_name() -> None:
    old = node_plan(WEB)
    new = replace(old, node_name="node-2", log_level="debug")
    assert refusals(old, old) == ()
    assert refusals(old, new) == (
        "NODE_NAME: node-1 became node-2, which needs a restart of the sidecar; restart it, or set it back",
        "CARP_LOG_LEVEL: info became debug, which needs a restart of the sidecar; restart it, or set it back",
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    chosen = draw(st.lists(st.sampled_from(("web", "db", "mail")), unique=True, max_size=3))
    fields = st.sampled_from(("vhid", "advskew", "key", "interface", "preempt", "up_command"))
    groups = []
    for name in chosen:
        changed = draw(st.frozensets(fields, max_size=3))
        groups.append(group_plan(name=name, **{field: OTHER[field] for field in changed}))
    return node_plan(*groups, kubernetes=draw(st.booleans()))


@given(st.lists(plans(), min_size=1, max_size=6))
def test_any_row_of_changes_ends_in_the_last_plan_and_touches_nobody_else(row: list[Plan]) -> None:
    """Do with a running engine's groups what the differences say; a plan that is refused does nothing."""
    running = {group.name: group for group in row[0].groups}
    births = dict.fromkeys(running, 0)
    for number, (old, new) in enumerate(itertools.pairwise(row), 1):
        found = difference(old, new)
        before = dict(running)
        for group in found.stopped:
            assert running.pop(group.name) == group
        for group in found.changed:
            assert group.name in running
            running[group.name] = group
        for group in found.started:
            assert group.name not in running
            running[group.name] = group
            births[group.name] = number
        assert running == {group.name: group for group in new.groups}
        for name, group in before.items():
            if running.get(name) == group:
                assert births[name] < number or number == 0
        assert found.nothing == (replace(old, groups=()) == replace(new, groups=()) and before == running)
    assert msgspec.json.encode(running)
