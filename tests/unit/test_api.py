"""The calls about pods: what is asked, and what is made of the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sidecar.agent.api import KubernetesPods
from sidecar.agent.desired import Condition, Metadata, Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Change, Listed, Which
from sidecar.agent.transport import MERGE_PATCH, STRATEGIC_PATCH, Call

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "carp-1",
        "uid": "u-1",
        "resourceVersion": "41",
        "labels": {"carp-role": "master"},
        "annotations": {"carp-sidecar/vhid": "42"},
        "managedFields": [{"manager": "x"}],
    },
    "spec": {"containers": [{"name": "carp"}]},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "carp-sidecar/master", "status": "False"}],
        "podIP": "10.0.0.11",
        "podIPs": [{"ip": "10.0.0.11"}, {"ip": "fd00::11"}],
    },
}
READ = Pod(
    name="carp-1",
    uid="u-1",
    resource_version="41",
    labels={"carp-role": "master"},
    annotations={"carp-sidecar/vhid": "42"},
    conditions={"carp-sidecar/master": "False"},
    ips=("10.0.0.11", "fd00::11"),
)
DYING = {
    "metadata": {"name": "carp-2", "resourceVersion": "7", "deletionTimestamp": "2026-01-01T00:00:00Z"},
    "status": {"conditions": [{"type": "Ready", "status": "False"}], "podIP": "10.0.0.12"},
}


class FakeTransport:
    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.calls: list[Call] = []

    async def request(self, call: Call) -> bytes:
        self.calls.append(call)
        return self.answers.pop(0)

    async def lines(self, call: Call) -> AsyncIterator[bytes]:
        self.calls.append(call)
        yield b""
        for line in self.answers:
            yield line


def pods(transport: FakeTransport) -> KubernetesPods:
    return KubernetesPods("edge", transport)  # type: ignore[arg-type]


def event(kind: str, thing: Any) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def test_pods_are_listed_by_label_and_field() -> None:
    body = {"kind": "PodList", "metadata": {"resourceVersion": "99"}, "items": [POD, DYING]}
    transport = FakeTransport(json.dumps(body).encode())
    found = asyncio.run(pods(transport).list(Which(labels="carp-role=master", fields="spec.nodeName=n")))
    dying = Pod(
        name="carp-2",
        resource_version="7",
        labels={},
        annotations={},
        terminating=True,
        ready=False,
        ips=("10.0.0.12",),
    )
    assert found == Listed((READ, dying), "99")
    assert not dying.lives
    (call,) = transport.calls
    assert (call.verb, call.resource, call.path) == ("list", "pods", "/api/v1/namespaces/edge/pods")
    assert call.query == (("labelSelector", "carp-role=master"), ("fieldSelector", "spec.nodeName=n"))


@pytest.mark.parametrize(("phase", "ended"), [("Failed", True), ("Succeeded", True), ("Running", False), ("", False)])
def test_a_pod_whose_containers_are_over_for_good_has_ended(phase: str, ended: bool) -> None:
    """An evicted one need not have any condition."""
    evicted = {**POD, "status": {"phase": phase}}
    transport = FakeTransport(json.dumps({"items": [evicted]}).encode())
    (found,) = asyncio.run(pods(transport).list(Which())).items
    assert (found.ended, found.lives) == (ended, not ended)


def test_no_pods_is_no_error() -> None:
    assert asyncio.run(pods(FakeTransport(b'{"items":null}')).list(Which())) == Listed((), "")


def test_a_watch_tells_what_changes_and_how_far_it_is() -> None:
    transport = FakeTransport(
        event("ADDED", POD),
        event("MODIFIED", POD),
        event("DELETED", POD),
        event("BOOKMARK", {"metadata": {"resourceVersion": "77"}}),
    )

    async def story() -> list[Change]:
        return [change async for change in pods(transport).watch(Which(labels="a=b"), "40", seconds=300)]

    assert asyncio.run(story()) == [
        Change(""),
        Change("41", READ),
        Change("41", READ),
        Change("41", READ, gone=True),
        Change("77"),
    ]
    assert transport.calls[0].verb == "watch"
    assert dict(transport.calls[0].query) == {
        "labelSelector": "a=b",
        "watch": "1",
        "resourceVersion": "40",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "300",
    }


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}), 410),
        (event("ERROR", {}), 500),
        (event("SOMETHING", POD), None),
        (b'{"type":"ADDED","object":{"metadata":{}}}', None),
        (b'{"type":"ADDED","obj', None),
        (b"<html>", None),
        (b"\xff", None),
    ],
)
def test_a_watch_that_says_anything_else_ends_with_an_error(line: bytes, status: int | None) -> None:
    async def story() -> None:
        [change async for change in pods(FakeTransport(line)).watch(Which(), "40", seconds=300)]

    with pytest.raises(ApiError) as caught:
        asyncio.run(story())
    assert caught.value.status == status


@pytest.mark.parametrize("unchanged", [False, True])
def test_labels_and_annotations_are_set_in_one_merge_patch_for_this_very_pod(unchanged: bool) -> None:
    transport = FakeTransport(json.dumps(POD).encode())
    said = Metadata(labels={"carp-role": "backup"}, annotations={"carp-sidecar/reason": "preempt"})
    assert asyncio.run(pods(transport).patch(READ, said, unchanged=unchanged)) == READ
    (call,) = transport.calls
    assert (call.verb, call.resource, call.path) == ("patch", "pods", "/api/v1/namespaces/edge/pods/carp-1")
    assert call.content_type == MERGE_PATCH
    fields = {"labels": {"carp-role": "backup"}, "annotations": {"carp-sidecar/reason": "preempt"}, "uid": "u-1"}
    assert call.body == {"metadata": fields | ({"resourceVersion": "41"} if unchanged else {})}


def test_a_condition_goes_with_the_labels_through_the_status() -> None:
    transport = FakeTransport(json.dumps(POD).encode())
    condition = Condition(type="carp-sidecar/master", status="True", reason="Master", message="m", since="s")
    asyncio.run(pods(transport).patch(READ, Metadata(labels={"a": "b"}, annotations={}, conditions=(condition,))))
    (call,) = transport.calls
    assert (call.resource, call.path) == ("pods/status", "/api/v1/namespaces/edge/pods/carp-1/status")
    assert call.content_type == STRATEGIC_PATCH
    assert call.body == {
        "metadata": {"labels": {"a": "b"}, "annotations": {}, "uid": "u-1"},
        "status": {
            "conditions": [
                {
                    "type": "carp-sidecar/master",
                    "status": "True",
                    "reason": "Master",
                    "message": "m",
                    "lastTransitionTime": "s",
                }
            ]
        },
    }


def test_what_is_taken_away_is_null_and_a_condition_is_deleted() -> None:
    transport = FakeTransport(json.dumps(POD).encode())
    said = Metadata(labels={"a": None}, annotations={"b": None}, without=("carp-sidecar/master",))
    asyncio.run(pods(transport).patch(READ, said))
    (call,) = transport.calls
    assert (call.resource, call.content_type) == ("pods/status", STRATEGIC_PATCH)
    assert call.body == {
        "metadata": {"labels": {"a": None}, "annotations": {"b": None}, "uid": "u-1"},
        "status": {"conditions": [{"$patch": "delete", "type": "carp-sidecar/master"}]},
    }


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"metadata":{"name":1}}', b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_pod_is_an_error(body: bytes) -> None:
    with pytest.raises(ApiError, match=r"^the API server's answer cannot be read: "):
        asyncio.run(pods(FakeTransport(body)).patch(READ, Metadata(labels={}, annotations={})))
