"""How changed settings are applied: what the engine is told and in which order, what is refused, what is said of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from sidecar.exits import EXIT_FAILED, ExitError
from sidecar.holdings import Interfaces
from sidecar.ipc.messages import (
    ChangeGroup,
    CloseInterface,
    Message,
    OpenInterface,
    SettingsStatus,
    StartGroup,
    StopGroup,
)
from sidecar.ipc.plan import GroupPlan, Plan
from sidecar.live.reload import HAND_OVER_WITHIN, JUDGED_AGAIN_AFTER, Parts, Reload
from sidecar.live.verdict import Verdict
from sidecar.reactor import Reactor
from tests.fakes.plans import group_plan, node_plan

WEB, DB = group_plan(), group_plan(name="db", vhid=43, vips=("10.0.0.201/32",))
OTHER_VHID, OTHER_SKEW = replace(WEB, vhid=44), replace(WEB, advskew=100)
OPENED = OpenInterface(interface="eth1", index=3, mac=bytes(6), up=True)


class Site:
    """Everything that has to do something, and what it was told, in order."""

    def __init__(self, plan: Plan) -> None:
        self.done: list[object] = []
        self.settings: list[SettingsStatus] = []
        """What the mirror was told of them."""
        self.ready = True
        self.child: Site | None = self
        self.killed = False
        self.refuses: str | None = None
        self.leases = self
        self.interfaces = Interfaces(opened=(), closed=())
        self.now = 100.0
        me = cast("Any", self)
        parts = Parts(elector=me, holdings=me, commands=_Commands(self), mirror=_Mirror(self))  # type: ignore[arg-type]
        self.reload = Reload(plan, None, Reactor(), parts, clock=lambda: self.now)

    def kill(self) -> None:
        self.killed = True

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:  # noqa: ARG002 - as the real one
        self.done.append(message)

    def prepare(self, groups: Sequence[GroupPlan]) -> None:  # noqa: ARG002 - as the real one
        if self.refuses is not None:
            raise ExitError(EXIT_FAILED, self.refuses)

    def change(self, groups: Sequence[GroupPlan], *, ended: Collection[str]) -> Interfaces:
        self.done.append(("holdings", [group.name for group in groups], list(ended)))
        return self.interfaces

    def introductions(self, names: Collection[str]) -> Iterator[tuple[Message, list[int]]]:
        return iter([(OPENED, [])] if names else [])

    def holds(self, group: str) -> bool:
        return group == "held"

    def lasts(self, group: str) -> float:  # noqa: ARG002 - as the real one
        return 2.5

    def all_changed(self) -> None:
        self.done.append("all changed")

    def judged(self, plan: Plan | None, *lines: str) -> list[object]:
        """Let a judge say so; return what was done."""
        self.reload._judged(Verdict(plan=plan, files={}, lines=lines))
        return self.told()

    def told(self) -> list[object]:
        done, self.done = self.done, []
        return done


class _Commands:
    def __init__(self, site: Site) -> None:
        self._site = site

    def follow(self, group: str, *, held: bool) -> None:
        self._site.done.append(("follow", group, held))

    def change(self, groups: Sequence[GroupPlan], *, started: list[str], held: list[str]) -> None:  # noqa: ARG002
        self._site.done.append(("commands", started))


class _Mirror:
    def __init__(self, site: Site) -> None:
        self._site = site

    def change(self, plan: Plan) -> None:  # noqa: ARG002 - as the real one
        self._site.done.append("mirror")

    def settings(self, status: SettingsStatus) -> None:
        self._site.settings.append(status)


@pytest.fixture
def site(caplog: pytest.LogCaptureFixture) -> Site:
    caplog.set_level(logging.INFO)
    return Site(node_plan(WEB, DB))


def changed(site: Site, ended: list[str], started: list[str]) -> list[object]:
    """What is done about the parent's own, in its order."""
    names = [group.name for group in site.reload.plan.groups]
    return [
        *(("follow", name, False) for name in ended),
        ("holdings", names, ended),
        ("commands", started),
        "mirror",
    ]


def test_a_change_in_place_is_told_to_the_engine_and_to_nobody_else(site: Site) -> None:
    done = site.judged(node_plan(OTHER_SKEW, DB))
    assert done == [*changed(site, [], []), ChangeGroup(group=OTHER_SKEW, lease=2.5)]
    assert (site.reload.status.generation, site.reload.plan) == (2, node_plan(OTHER_SKEW, DB))


def test_what_ends_hands_over_before_anything_else_happens(site: Site) -> None:
    mail = group_plan(name="mail", interface="eth1", vhid=42)
    plan = node_plan(OTHER_VHID, mail)
    assert site.judged(plan) == [StopGroup(group="db"), StopGroup(group="web")]
    site.reload.stopped("db")
    assert site.told() == []
    assert site.reload.plan == node_plan(WEB, DB)  # in force until then, for an engine that dies
    site.interfaces = Interfaces(opened=("eth1",), closed=("eth9",))
    site.reload.stopped("web")
    assert site.told() == [
        *changed(site, ["db", "web"], ["web", "mail"]),
        OPENED,
        StartGroup(group=OTHER_VHID, resume=False, lease=2.5),
        StartGroup(group=mail, resume=False, lease=2.5),
        CloseInterface(interface="eth9"),
    ]
    assert site.reload.plan == plan


def test_an_engine_that_dies_meanwhile_hands_nothing_over(site: Site) -> None:
    site.judged(node_plan(OTHER_VHID, DB))
    site.ready = False
    site.reload.engine_ended()
    assert site.told() == ["all changed", *changed(site, ["web"], ["web"]), "all changed"]
    assert site.reload.plan == node_plan(OTHER_VHID, DB)
    site.reload.engine_ended()
    assert site.told() == ["all changed"]


def test_an_engine_that_does_not_hand_over_is_ended(site: Site) -> None:
    site.judged(node_plan(DB))
    assert site.reload.next() == site.now + HAND_OVER_WITHIN
    site.reload.tick(site.now + HAND_OVER_WITHIN - 0.1)
    assert not site.killed
    site.reload.tick(site.now + HAND_OVER_WITHIN)
    assert site.killed


def test_without_an_engine_the_next_one_begins_with_the_change(site: Site) -> None:
    site.ready = False
    assert site.judged(node_plan(OTHER_VHID)) == [*changed(site, ["db", "web"], ["web"]), "all changed"]


def test_mistakes_are_said_once_and_change_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    said = "changed settings are refused, the old ones stay in force: "
    assert site.judged(None, "vhid: wrong", "vips: wrong") == []
    since = site.reload.status.refused_since
    assert since is not None
    assert site.judged(None, "vhid: wrong", "vips: wrong") == []
    assert caplog.messages == [f"{said}vhid: wrong", f"{said}vips: wrong"]
    site.judged(None, "vips: wrong")
    assert caplog.messages[2:] == [f"{said}vips: wrong"]
    status = site.reload.status
    assert (status.generation, status.refused_since, status.errors) == (1, since, ("vips: wrong",))
    site.reload._asked = True
    site.judged(None, "vips: wrong")
    assert len(caplog.messages) == 4  # whoever asks is told again
    assert site.judged(node_plan(WEB, DB)) == []
    assert caplog.messages[4:] == ["the settings are what is in force already"]
    assert (site.reload.status.errors, site.reload.status.refused_since) == ((), None)
    site.judged(node_plan(WEB, DB))
    assert len(caplog.messages) == 5


def test_what_is_refused_is_judged_again_each_minute_for_it_may_not_be_the_settings_fault(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    monkeypatch.setattr(site.reload, "_trials", trials := Mock(**{"next.return_value": math.inf}))
    trials.begin.side_effect = lambda: begun.append(site.now)
    assert site.reload.next() == math.inf
    for minute in (0, 1, 2):
        site.judged(None, "groups[0].interface: eth7 is not there")
        assert site.reload.next() == site.now + JUDGED_AGAIN_AFTER
        site.now += JUDGED_AGAIN_AFTER - 1
        site.reload.tick(site.now)
        assert len(begun) == minute
        site.now += 1
        site.reload.tick(site.now)
        site.reload.tick(site.now)
        assert len(begun) == minute + 1
        assert site.reload.next() == math.inf, "until there is a verdict"
    assert len([line for line in caplog.messages if "are refused" in line]) == 1
    assert site.judged(node_plan(OTHER_SKEW, DB))
    assert site.reload.next() == math.inf
    assert len(begun) == 3


def test_the_mirror_is_told_of_each_refusal_and_of_its_end_and_of_nothing_twice(site: Site) -> None:
    site.judged(node_plan(WEB, DB))
    assert site.settings == [], "nothing has changed"
    for lines in (("vhid: wrong",), ("vhid: wrong",), ("vips: wrong",)):
        site.judged(None, *lines)
    assert [status.errors for status in site.settings] == [("vhid: wrong",), ("vips: wrong",)]
    assert len({status.refused_since for status in site.settings}) == 1
    site.judged(node_plan(WEB, DB))
    site.judged(node_plan(WEB, DB))
    (end,) = site.settings[2:]
    assert (end.errors, end.refused_since, end.refused_until is None) == ((), None, False)
    site.judged(node_plan(OTHER_SKEW, DB))
    (applied,) = site.settings[3:]
    assert (applied.generation, applied.refused_until) == (2, end.refused_until)
    site.judged(None, "vhid: wrong")
    site.judged(node_plan(WEB, DB))
    assert (site.settings[-1].generation, site.settings[-1].refused_since) == (3, None)
    assert cast("float", site.settings[-1].refused_until) > cast("float", end.refused_until)


def test_what_the_node_says_meanwhile_puts_no_mistake_right(site: Site) -> None:
    site.judged(None, "vhid: wrong")
    site.reload.override(200)
    status = site.reload.status
    assert (status.generation, status.errors, status.refused_until) == (2, ("vhid: wrong",), None)
    assert status.refused_since is not None


def test_what_takes_a_restart_or_cannot_be_opened_is_refused_as_a_whole(site: Site) -> None:
    assert site.judged(replace(node_plan(OTHER_SKEW), runtime_dir="/elsewhere")) == []
    assert "CARP_RUNTIME_DIR: /run/carp-sidecar became /elsewhere" in site.reload.status.errors[0]
    site.refuses = "cannot open a packet socket on eth1: no"
    assert site.judged(node_plan(OTHER_SKEW)) == []
    assert site.reload.status.errors == (site.refuses,)
    assert site.reload.plan == node_plan(WEB, DB)


def test_of_many_and_long_mistakes_the_status_has_some(site: Site) -> None:
    site.judged(None, *(f"{number} {'x' * 1000}" for number in range(100)))
    assert len(site.reload.status.errors) == 20
    assert {len(line) for line in site.reload.status.errors} == {500}


def test_a_stop_ends_it(site: Site) -> None:
    site.judged(node_plan(DB))
    site.reload.stop()
    site.reload.stopped("web")
    site.told()
    assert site.reload.plan == node_plan(WEB, DB)
    site.reload.read_anew()
    site.reload.begin()
    assert site.reload.running == []


# An advskew from elsewhere -------------------------------------------------------------------------------------------


def skewed(advskew: int, *groups: GroupPlan) -> Plan:
    return node_plan(*(replace(group, advskew=advskew) for group in groups))


def test_an_advskew_from_elsewhere_goes_before_the_settings_and_is_given_back(site: Site) -> None:
    site.reload.override(7)
    assert site.told() == [
        *changed(site, [], []),
        ChangeGroup(group=replace(WEB, advskew=7), lease=2.5),
        ChangeGroup(group=replace(DB, advskew=7), lease=2.5),
    ]
    site.reload.override(7)
    assert site.told() == []
    site.judged(node_plan(replace(WEB, advskew=100, dead_ratio=5), DB))
    assert site.reload.plan == skewed(7, replace(WEB, dead_ratio=5), DB)
    site.judged(node_plan(OTHER_SKEW, DB))
    site.told()
    site.reload.override(None)
    assert site.reload.plan == node_plan(OTHER_SKEW, DB)
    assert site.told() == [
        *changed(site, [], []),
        ChangeGroup(group=OTHER_SKEW, lease=2.5),
        ChangeGroup(group=DB, lease=2.5),
    ]


def test_one_that_comes_during_a_change_waits_for_its_end(site: Site) -> None:
    site.judged(node_plan(OTHER_VHID, DB))
    site.told()
    site.reload.override(3)
    site.reload.override(7)
    assert site.told() == []
    site.reload.stopped("web")
    assert site.reload.plan == skewed(7, OTHER_VHID, DB)
    assert site.told()[-2:] == [
        ChangeGroup(group=replace(OTHER_VHID, advskew=7), lease=2.5),
        ChangeGroup(group=replace(DB, advskew=7), lease=2.5),
    ]


def test_settings_that_are_refused_leave_it_as_it_is(site: Site) -> None:
    site.reload.override(7)
    site.refuses = "cannot open a packet socket on eth1: no"
    site.judged(node_plan(OTHER_VHID, DB))
    assert site.reload.plan == skewed(7, WEB, DB)
    site.reload.override(None)
    assert site.reload.plan == node_plan(WEB, DB)
