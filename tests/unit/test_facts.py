"""What Kubernetes says of this pod and this node, and that it is not asked more often than needed."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.agent.complaints import Complaints
from sidecar.agent.context import Context
from sidecar.agent.errors import ApiError
from sidecar.agent.facts import Facts
from sidecar.agent.state import ApiState, MirrorStatus
from sidecar.agent.transport import Call
from sidecar.ipc.plan import KubernetesPlan

PLAN = KubernetesPlan(pod_name="carp-1", pod_namespace="edge", role_label="carp-role", kubeconfig="")
POD = {
    "metadata": {"name": "carp-1"},
    "status": {
        "containerStatuses": [{"name": "carp", "ready": True}, {"name": "app", "ready": False}],
        "initContainerStatuses": [{"name": "proxy", "ready": True}],
    },
}
NODE = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "Unknown"}]}}


class Server:
    """A transport with answers by path, and a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Call] = []
        self.answers: dict[str, object] = {
            "/api/v1/namespaces/edge/pods": {"items": [POD]},
            "/api/v1/nodes/node-a": NODE,
        }
        self.down: ApiError | None = None
        self.status = MirrorStatus()
        context = Context(
            plan=PLAN,
            node="node-a",
            groups=(),
            status=self.status,
            complaints=Complaints(self.status, lambda: 0.0),
            jitter=lambda: 1.0,
        )
        self.facts = Facts(self, context, clock=lambda: self.now)  # type: ignore[arg-type]

    async def request(self, call: Call) -> bytes:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        return json.dumps(self.answers[call.path]).encode()

    def ready(self, *names: str) -> list[bool | None]:
        async def ask() -> list[bool | None]:
            return list(await asyncio.gather(*map(self.facts.container_ready, names)))

        return asyncio.run(ask())

    def condition(self, kind: str) -> str | None:
        return asyncio.run(self.facts.node_condition(kind))


@pytest.fixture
def server() -> Server:
    return Server()


def test_containers_and_conditions(server: Server) -> None:
    assert server.ready("carp", "app", "proxy", "other") == [True, False, True, None]
    assert [server.condition(kind) for kind in ("Ready", "DiskPressure", "Other")] == ["True", "Unknown", None]
    assert [(call.verb, call.resource, call.path) for call in server.calls] == [
        ("list", "pods", "/api/v1/namespaces/edge/pods"),
        ("get", "nodes", "/api/v1/nodes/node-a"),
    ], "one answer serves all that ask at once"
    server.now = 1.0
    server.ready("carp")
    assert len(server.calls) == 3


def test_a_pod_without_a_status_says_nothing(server: Server) -> None:
    server.answers["/api/v1/namespaces/edge/pods"] = {"items": [{"metadata": {"name": "carp-1"}}]}
    assert server.ready("app") == [None]
    server.now, server.answers["/api/v1/namespaces/edge/pods"] = 1.0, {"items": []}
    assert server.ready("app") == [None]


@pytest.mark.parametrize("answer", ["", [], {"status": {"containerStatuses": 3}}])
def test_what_cannot_be_read_says_nothing(server: Server, answer: object) -> None:
    server.answers["/api/v1/namespaces/edge/pods"] = answer
    assert server.ready("app") == [None]


def test_a_server_that_is_away_is_left_alone_for_longer_and_longer_and_what_it_said_counts_no_more(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    assert server.ready("carp") == [True]
    server.down = ApiError("it cannot be reached")
    for _ in range(100):
        server.now += 0.1
        if server.now >= 1.0:
            assert server.ready("carp") == [None]
    assert len(server.calls) < 20
    assert len(caplog.messages) == 1
    server.down = None
    server.now += 1.0
    assert server.ready("carp") == [True]
    assert server.status.api is ApiState.OK


def test_a_right_that_is_missing_is_named(server: Server) -> None:
    server.down = ApiError("the right to get nodes is missing (403)", 403, right="get nodes")
    assert server.condition("Ready") is None
    assert server.status.missing_rights == {"get nodes"}
