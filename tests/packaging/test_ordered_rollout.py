"""What the Job of a rollout waits for, and whose turn it is; tests/cluster/test_documented.py runs all of it."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.fakes.helm import CHART

SPEC = importlib.util.spec_from_file_location("ordered_rollout", CHART / "files/ordered_rollout.py")
assert SPEC is not None
assert SPEC.loader is not None
rollout = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(rollout)

WHOLE = {"observedGeneration": 2, "desiredNumberScheduled": 3, "numberAvailable": 3, "updatedNumberScheduled": 1}


def pod(name: str, *, leaving: bool = False, **labels: str) -> dict[str, Any]:
    ends = {"deletionTimestamp": "2026-11-25T19:00:00Z"} if leaving else {}
    return {"metadata": {"name": name, "labels": labels, **ends}}


PODS = [pod("a"), pod("b"), pod("c")]


def lacking(pods: list[dict[str, Any]], updated: int = 1, **status: int) -> str:
    return str(rollout.lacking({"metadata": {"generation": 2}, "status": {**WHOLE, **status}}, pods, updated))


@pytest.mark.parametrize(
    ("waits", "for_what"),
    [
        (lacking(PODS), ""),
        (lacking(PODS, observedGeneration=1), "the controller to see the new template"),
        (lacking([*PODS[:2], pod("c", leaving=True)]), "the end of c"),
        (lacking(PODS[:2]), "a pod on each node"),
        (lacking(PODS, updated=2), "a pod on each node"),  # the status is from before the last one
        (lacking([], updated=0, desiredNumberScheduled=0, updatedNumberScheduled=0), "a pod on each node"),
        (lacking(PODS, numberAvailable=2), "all pods to be available: 2 of 3 are"),
        (rollout.lacking({"metadata": {"generation": 1}}, [], 0), "the controller to see the new template"),
    ],
)
def test_the_next_one_waits_until_all_are_there(waits: str, for_what: str) -> None:
    assert waits == for_what


def test_who_is_master_of_less_goes_first() -> None:
    labels = ("carp-role-web", "carp-role-db")
    roles = [("master", "master"), ("backup", "backup"), ("master", "backup"), ("init", "master")]
    pods = [pod("any", **dict(zip(labels, role, strict=True))) for role in roles]
    assert [rollout.masterships(each, labels) for each in pods] == [2, 0, 1, 1]


def test_the_newest_revision_is_that_of_this_daemonset() -> None:
    def revision(number: int, name: str, owner: str) -> dict[str, Any]:
        labels = {"controller-revision-hash": name}
        return {"revision": number, "metadata": {"labels": labels, "ownerReferences": [{"uid": owner}]}}

    found = [revision(9, "new", "mine"), revision(10, "newest", "mine"), revision(11, "other", "theirs")]
    assert rollout.newest(found, "mine") == "newest"
