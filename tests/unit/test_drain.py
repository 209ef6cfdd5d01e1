"""In which order a node lets go, what that waits for, and what whoever asked is told."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from sidecar.drain import LABELLED_WITHIN, Draining
from sidecar.ipc.messages import Drained, GroupRole, Message, Snapshot
from tests.fakes.plans import group_plan

WEB, DB = group_plan(), group_plan(name="db", vhid=43, vips=("10.0.0.201/32",))
BOTH = ("label", ("web", "db"))
SUCCESSION = 1.0625


class Site:
    """The parent's parts, and all that was done, in order."""

    def __init__(self) -> None:
        self.now = 100.0
        self.done: list[object] = []
        self.labels = True
        me = cast("Any", self)
        self.drain = Draining(me, me, self.answer, clock=lambda: self.now)

    def yield_labels(self, groups: tuple[str, ...]) -> bool:
        if self.labels:
            self.done.append(("label", groups))
        return self.labels

    def tell(self, message: Message) -> None:
        self.done.append(type(message).__name__)

    def answer(self, client: int, message: Message) -> None:
        self.done.append((client, message))

    def says(self, **roles: str) -> None:
        groups = (
            GroupRole(name=name, role=role, since=0.0, reason="handed-over", transitions=3, detail=f"{name} is taken")
            for name, role in roles.items()
        )
        self.drain.saw(Snapshot(groups=tuple(groups)))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.drain.tick(self.now)

    def told(self) -> list[object]:
        done, self.done = self.done, []
        return done


@pytest.fixture
def site() -> Site:
    return Site()


def test_the_label_comes_first_and_is_waited_for_but_not_for_long(site: Site) -> None:
    def leave() -> None:
        site.done.append("leave")

    site.drain.label_first([WEB, DB], leave)
    assert site.told() == [BOTH]
    site.drain.labelled()
    assert site.told() == ["leave"]
    site.drain.labelled()
    assert (site.told(), site.drain.next()) == ([], math.inf)

    site.drain.label_first([WEB], leave)
    site.pass_time(LABELLED_WITHIN - 0.01)
    assert site.told() == [("label", ("web",))]
    site.pass_time(0.01)
    assert site.told() == ["leave"]


@pytest.mark.parametrize("groups", [[], [WEB]])
def test_where_there_is_nothing_to_label_or_nobody_to_do_it_nothing_waits(site: Site, groups: list[Any]) -> None:
    site.labels = False
    site.drain.label_first(groups, lambda: site.done.append("leave"))
    assert (site.told(), site.drain.next()) == (["leave"], math.inf)


def test_a_drain_ends_once_every_group_is_taken_over(site: Site) -> None:
    site.drain.begin(7, [WEB, DB])
    site.says(web="backup", db="master")  # not asked yet: somebody was better
    assert site.told() == [BOTH]
    site.drain.labelled()
    assert site.told() == ["HandOver"]
    site.drain.begin(8, [WEB])
    site.says(web="backup", db="master")
    assert site.told() == []
    site.says(web="backup", db="init")
    done = Drained(taken={"web": "web is taken", "db": "db is taken"})
    assert site.told() == [("label", ()), (7, done), (8, done)]
    assert site.drain.next() == math.inf
    site.says(web="master")
    assert site.told() == []


def test_what_nobody_takes_over_is_told_and_says_master_again(site: Site) -> None:
    site.drain.begin(7, [WEB, DB])
    site.drain.labelled()
    site.says(web="backup", db="master")
    site.pass_time(SUCCESSION - 0.01)
    assert site.told() == [BOTH, "HandOver"]
    site.pass_time(0.01)
    assert site.told() == [("label", ()), (7, Drained(taken={"web": "web is taken"}, left=("db",)))]
    site.drain.begin(7, [DB])
    assert site.told() == [("label", ("db",))], "it can be asked again"


def test_a_node_that_is_master_of_nothing_has_nothing_to_drain(site: Site) -> None:
    site.drain.begin(7, [])
    assert site.told() == [(7, Drained())]


def test_a_stop_in_the_middle_of_a_drain_goes_before_it(site: Site) -> None:
    site.drain.begin(7, [WEB])
    site.drain.labelled()
    site.drain.label_first([WEB], lambda: site.done.append("leave"))
    site.told()
    site.pass_time(LABELLED_WITHIN - 0.01)
    site.now, site.drain._labelled_by = site.now + 1, math.inf  # the label takes its time
    site.drain.tick(site.now)
    assert site.told() == [(7, Drained(left=("web",)))], "the labels of the stop are not taken back"
