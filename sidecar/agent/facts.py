"""What Kubernetes says of this pod and this node: read when a probe asks, and never more often than that."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import msgspec

from sidecar.agent.api import decode
from sidecar.agent.backoff import Backoff
from sidecar.agent.context import Context
from sidecar.agent.errors import ApiError
from sidecar.agent.transport import Call, Transport

FRESH = 1.0
"""Seconds for which an answer serves all probes."""


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Container(msgspec.Struct):
    name: str
    ready: bool = False


class _Status(msgspec.Struct):
    conditions: list[_Condition] = []
    containers: list[_Container] = msgspec.field(name="containerStatuses", default_factory=list)
    sidecars: list[_Container] = msgspec.field(name="initContainerStatuses", default_factory=list)


class _Object(msgspec.Struct):
    """One object, or a list of those that were asked for by name."""

    status: _Status = msgspec.field(default_factory=_Status)
    items: list[_Object] = []


class Facts:
    """This pod and this node. None stands for what Kubernetes does not say, or is not there to say."""

    def __init__(self, transport: Transport, context: Context, *, clock: Callable[[], float] = time.monotonic) -> None:
        plan = context.plan
        pod = Call(  # as a list of one: the chart's Role has no right to get pods
            verb="list",
            resource="pods",
            path=f"/api/v1/namespaces/{plan.pod_namespace}/pods",
            what=f"pod {plan.pod_namespace}/{plan.pod_name}",
            query=(("fieldSelector", f"metadata.name={plan.pod_name}"),),
        )
        path = f"/api/v1/nodes/{context.node}"
        node = Call(verb="get", resource="nodes", path=path, what=f"node {context.node}")
        self._pod = _Reader(transport, pod, context, clock)
        self._node = _Reader(transport, node, context, clock)

    async def container_ready(self, name: str) -> bool | None:
        """Tell whether a container of this pod is ready."""
        status = await self._pod.read()
        if status is None:
            return None
        found = [each.ready for each in (*status.containers, *status.sidecars) if each.name == name]
        return found[0] if found else None

    async def node_condition(self, kind: str) -> str | None:
        """Return the status of a condition of this node: True, False or Unknown."""
        status = await self._node.read()
        return None if status is None else next((each.status for each in status.conditions if each.type == kind), None)


class _Reader:
    """One object. A server that refuses or is away is left alone for a while, as by all others."""

    def __init__(self, transport: Transport, call: Call, context: Context, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._call = call
        self._complaints = context.complaints
        self._clock = clock
        self._backoff = Backoff(context.jitter)
        self._turn = asyncio.Lock()
        self._last: _Status | None = None
        self._not_before = -math.inf

    async def read(self) -> _Status | None:
        """Return how it stands, as of a second ago at most."""
        async with self._turn:
            if self._clock() >= self._not_before:
                self._last = await self._ask()
            return self._last

    async def _ask(self) -> _Status | None:
        about = f"health: {self._call.what}"
        try:
            found: Any = decode(await self._transport.request(self._call), _Object)
        except ApiError as error:
            self._complaints.note(about, error)
            self._not_before = self._clock() + self._backoff.after(error)
            return None
        self._complaints.note(about, None)
        self._backoff.settle()
        self._not_before = self._clock() + FRESH
        status: _Status = (found.items or [found])[0].status
        return status
