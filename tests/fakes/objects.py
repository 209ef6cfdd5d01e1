"""Objects behind a transport, as far as the mirror's followers need an API server: by path, with versions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from sidecar.agent.complaints import Complaints
from sidecar.agent.context import Context
from sidecar.agent.desired import Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.reconciler import Mastered
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import APPLY_PATCH, Call
from sidecar.ipc.messages import GroupRole, MirroredGroup
from sidecar.ipc.plan import KubernetesPlan, MirrorPlan


class Objects:
    """Use it as a Transport."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.calls: list[Call] = []
        self.failures: list[ApiError] = []
        self.troubles: dict[tuple[str, str], ApiError] = {}
        """Raised by every call of that verb and path."""
        self.version = 0
        self._changed = asyncio.Event()

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.verb in {"create", "patch"}]

    def put(self, path: str, thing: dict[str, Any]) -> None:
        self.version += 1
        metadata = {**thing.get("metadata", {}), "resourceVersion": str(self.version)}
        self.found[path] = {**thing, "metadata": metadata}
        self._changed.set()

    async def request(self, call: Call) -> bytes:
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)
        if trouble := self.troubles.get((call.verb, call.path)):
            raise trouble
        match call.verb:
            case "list":
                below = [thing for path, thing in self.found.items() if path.startswith(f"{call.path}/")]
                return json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": below}).encode()
            case "create":
                body = json.loads(json.dumps(call.body))
                path = f"{call.path}/{body['metadata']['name']}"
                if path in self.found:
                    raise ApiError("it is there already", 409)
                self.put(path, body)
            case "patch":
                path = call.path.removesuffix("/status")
                self._patch(path, json.loads(json.dumps(call.body)), applies=call.content_type == APPLY_PATCH)
            case _:
                path = call.path
                if path not in self.found:
                    raise ApiError(f"{call.what} is not there (404)", 404)
        return json.dumps(self.found[path]).encode()

    def _patch(self, path: str, body: dict[str, Any], *, applies: bool) -> None:
        there = self.found.get(path)
        if there is None and not applies:
            raise ApiError("not there", 404)
        version = body.get("metadata", {}).pop("resourceVersion", None)
        if there is not None and version not in (None, there["metadata"]["resourceVersion"]):
            raise ApiError("modified", 409)
        self.put(path, _merged(there or {}, body))

    async def lines(self, call: Call) -> AsyncIterator[bytes]:
        self.calls.append(call)
        yield b""
        told = {path: thing["metadata"]["resourceVersion"] for path, thing in self.found.items()}
        while True:
            self._changed.clear()
            for path, thing in list(self.found.items()):
                if path.startswith(f"{call.path}/") and told.get(path) != thing["metadata"]["resourceVersion"]:
                    told[path] = thing["metadata"]["resourceVersion"]
                    yield json.dumps({"type": "MODIFIED", "object": thing}).encode()
            await self._changed.wait()


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(new, dict) or not isinstance(old, dict):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def context(mirror: MirrorPlan = MirrorPlan(), **changes: Any) -> Context:  # noqa: B008 - frozen
    status = MirrorStatus()
    plan = KubernetesPlan(
        pod_name="a", pod_namespace="edge", role_label="carp-role", kubeconfig="", events=True, **changes
    )
    group = MirroredGroup(name="web", interface="eth0", vhid=42, vips=("10.0.0.200/32", "fd00::200/128"), mirror=mirror)
    return Context(
        plan=plan,
        node="node-a",
        groups=(group,),
        status=status,
        complaints=Complaints(status, lambda: 0.0),
        jitter=lambda: 1.0,
        wall=lambda: 1000.0,
    )


def mastered(
    mirror: MirrorPlan = MirrorPlan(),  # noqa: B008 - frozen
    *,
    group: str = "web",
    pod: str = "a",
    epoch: int = 1,
    ips: tuple[str, ...] = ("10.1.0.1",),
) -> Mastered:
    target = Pod(name=pod, uid=f"uid-{pod}", resource_version="1", labels={}, annotations={}, ips=ips)
    return Mastered(
        group=msgspec.structs.replace(context(mirror).groups[0], name=group),
        role=GroupRole(name=group, role="master", since=1000.0, reason="preempt", transitions=1),
        epoch=epoch,
        node=f"node-{pod}",
        holder=pod,
        targets=(target,),
    )
