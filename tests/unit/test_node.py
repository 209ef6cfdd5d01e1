"""What a Node object says, and to whom that is told; tests/cluster/test_node.py has a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.agent.complaints import Complaints
from sidecar.agent.context import Context
from sidecar.agent.events import News
from sidecar.agent.node import Node, NodeWatch, word
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import Call
from sidecar.ipc.messages import NodeSays
from sidecar.ipc.plan import KubernetesPlan

OFF = KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig="")
ANNOTATIONS = replace(OFF, node_annotations=True)
CORDON = replace(OFF, cordon=True)


def node(unschedulable: bool = False, **annotations: str) -> Node:
    said = {f"carp-sidecar/{name}": value for name, value in annotations.items()}
    return Node(name="node-a", uid="1", resource_version="1", annotations=said, unschedulable=unschedulable)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("new disks", "new disks"),
        ("true", "true"),
        (" x ", "x"),
        ("", None),
        (" ", None),
        ("false", None),
        ("False", None),
    ],
)
def test_any_value_but_none_and_false_is_maintenance_and_its_reason(value: str, reason: str | None) -> None:
    assert word(node(maintenance=value), ANNOTATIONS) == NodeSays(maintenance=reason)


@pytest.mark.parametrize(("value", "advskew"), [("0", 0), ("254", 254), (" 7 ", 7), ("007", 7), ("", None)])
def test_an_advskew(value: str, advskew: int | None) -> None:
    assert word(node(advskew=value), ANNOTATIONS) == NodeSays(advskew=advskew)


@pytest.mark.parametrize("value", ["255", "-1", "1.5", "x", "²", "9" * 5000, "0x10", "1 2"])
def test_an_advskew_that_is_none_is_refused_in_one_line_that_names_the_remedy(value: str) -> None:
    says = word(node(advskew=value), ANNOTATIONS)
    assert says.advskew is None
    assert says.refused is not None
    assert says.refused.startswith(f"node node-a: annotation carp-sidecar/advskew='{value[:40]}")
    assert says.refused.endswith("remove it: kubectl annotate node node-a carp-sidecar/advskew-")
    assert len(says.refused) < 300


def test_what_is_not_asked_for_is_not_said() -> None:
    every = node(True, maintenance="x", advskew="7")
    assert word(every, CORDON) == NodeSays(cordoned=True)
    assert word(every, ANNOTATIONS) == NodeSays(maintenance="x", advskew=7)
    assert word(node(False), CORDON) == NodeSays()


class Server:
    """A transport with one list and one watch, whose events the test gives."""

    def __init__(self, plan: KubernetesPlan, *items: Mapping[str, Any]) -> None:
        self.items = list(items)
        self.events: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.calls: list[Call] = []
        self.said: list[NodeSays] = []
        self.told: list[News] = []
        self.status = MirrorStatus()
        complaints = Complaints(self.status, lambda: 5.0)
        context = Context(
            plan=plan, node="node-a", groups=(), status=self.status, complaints=complaints, wall=lambda: 5.0
        )
        self.watch = NodeWatch(self, context, said=self.said.append, tell=self.told.append)  # type: ignore[arg-type]

    async def request(self, call: Call) -> bytes:
        self.calls.append(call)
        return json.dumps({"items": self.items, "metadata": {"resourceVersion": "1"}}).encode()

    async def lines(self, call: Call) -> AsyncIterator[bytes]:
        self.calls.append(call)
        yield b""
        while True:
            yield json.dumps(await self.events.get()).encode()

    def play(self, *events: Mapping[str, Any]) -> None:
        async def scene() -> None:
            task = asyncio.create_task(self.watch.run())
            for event in events:
                self.events.put_nowait(event)
            while len(self.calls) < 2 or not self.events.empty():
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(scene())


def document(version: int, *, cordoned: bool = False, **annotations: str) -> dict[str, Any]:
    said = {f"carp-sidecar/{name}": value for name, value in annotations.items()}
    metadata = {"name": "node-a", "uid": "1", "resourceVersion": str(version), "annotations": said}
    return {"metadata": metadata, "spec": {"unschedulable": cordoned}}


def modified(version: int, **changes: Any) -> dict[str, Any]:
    return {"type": "MODIFIED", "object": document(version, **changes)}


def test_it_asks_for_one_node_and_for_its_metadata_only() -> None:
    server = Server(ANNOTATIONS, document(1))
    server.play()
    assert [(call.verb, call.resource, call.path) for call in server.calls] == [
        ("list", "nodes", "/api/v1/nodes"),
        ("watch", "nodes", "/api/v1/nodes"),
    ]
    assert [("fieldSelector", "metadata.name=node-a") in call.query for call in server.calls] == [True, True]
    assert [call.accept.split(";")[1] for call in server.calls] == [
        "as=PartialObjectMetadataList",
        "as=PartialObjectMetadata",
    ]
    whole = Server(CORDON, document(1))
    whole.play()
    assert {call.accept for call in whole.calls} == {"application/json"}, "spec is no metadata"


def test_it_says_what_is_there_at_first_and_then_what_changes() -> None:
    server = Server(replace(ANNOTATIONS, cordon=True), document(1))
    server.play(
        modified(2, maintenance="disks"),
        modified(3, maintenance="disks", heartbeat="x"),
        modified(4, maintenance="disks", cordoned=True),
        modified(5),
    )
    assert server.said == [
        NodeSays(),
        NodeSays(maintenance="disks"),
        NodeSays(maintenance="disks", cordoned=True),
        NodeSays(),
    ]


def test_a_node_that_is_gone_says_nothing_and_that_is_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(ANNOTATIONS, document(1, maintenance="disks"))
    server.play({"type": "DELETED", "object": document(2, maintenance="disks")})
    assert server.said == [NodeSays(maintenance="disks")]
    (line,) = caplog.messages
    assert line.startswith("node node-a is not there (404); check NODE_NAME")


def test_a_refused_value_is_told_once_by_log_event_and_metric(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(ANNOTATIONS, document(1, advskew="7"))
    server.play(modified(2, advskew="300"), modified(3, advskew="300", maintenance="x"))
    assert [(says.advskew, says.refused is None) for says in server.said] == [(7, True), (None, False), (None, False)]
    (line,) = caplog.messages
    assert line == server.status.annotation_refused
    assert "'300' is no whole number from 0 to 254" in line
    assert server.told == [News("AnnotationRefused", line, "node", 5.0, warning=True)]
    server = Server(ANNOTATIONS, document(1, advskew="300"))
    server.play(modified(2, advskew="3"))
    assert server.status.annotation_refused == ""
