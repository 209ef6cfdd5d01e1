"""Two hundred agents before one real API server: nothing, many starts, a stretch of nothing new, failovers.

And what the API server pays for the renewal of a Lease, of which a product that elects by one makes many.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.mirror.agents import Agent, Crowd, node_of
from bench.mirror.labels import Labels, only
from bench.mirror.requests import between, counted, watches
from bench.processes import cpu_seconds, memory
from sidecar.agent.api import KubernetesPods
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import Transport
from sidecar.demo.admin import Admin
from sidecar.demo.cluster import RULES
from sidecar.demo.controlplane import ControlPlane
from sidecar.ipc.plan import KubernetesPlan

_SETTLED = 2.0
"""Seconds after the labels are right in which the Events go out; they belong to what was measured."""
_RATE = 20.0
"""How many requests about a Lease are made in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured. ``seconds`` is each stretch in which nothing happens, ``renewals`` are a Lease's."""

    agents: int = 200
    processes: int = 4
    seconds: float = 120.0
    failovers: int = 20
    renewals: int = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a stretch of time cost: the API server's and etcd's CPU seconds by program, the requests by kind."""

    seconds: float
    cpu: dict[str, float]
    requests: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All of it. ``labelled`` and ``failovers`` are seconds until the labels were right."""

    size: Size
    kubernetes: str
    empty: Used
    """Before there is an agent."""
    labelled: float
    start: Used
    watches: dict[str, int]
    """Those that are open since, by resource; one is the bench's own."""
    steady: Used
    failovers: list[float]
    failover: Used
    """Of all failovers."""
    memory: dict[str, float]
    """MB of an agent's process: a backup's, and a master's that has followed all pods."""
    update: Used
    get: Used
    """So many updates and reads of a Lease."""


class _Meter:
    """Looks at the API server's own metrics, and at /proc."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self._requests = counted(self._metrics())
        self._cpu = self._ran()
        self._at = time.monotonic()

    def used(self) -> Used:
        """Return what there was since."""
        seconds, ran = time.monotonic() - self._at, self._ran()
        return Used(
            seconds=seconds,
            cpu={name: ran[name] - before for name, before in self._cpu.items()},
            requests=between(self._requests, counted(self._metrics())),
        )

    def watches(self) -> Counter[str]:
        return watches(self._metrics())

    def _ran(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._plane.pids.items()}

    def _metrics(self) -> str:
        return self._plane.admin.send("GET", "/metrics")[1].decode()


def measure(plane: ControlPlane, size: Size) -> Result:
    """Measure in a namespace of its own. Raises TimeoutError, and what calls to the API server raise."""
    namespace = f"bench-{secrets.token_hex(3)}"
    plane.admin.create_namespace(namespace)
    return asyncio.run(_story(plane, namespace, size))


async def _story(plane: ControlPlane, namespace: str, size: Size) -> Result:
    admin = plane.admin
    names = [f"carp-{number}" for number in range(size.agents)]
    for name in names:
        _create_pod(admin, namespace, name)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        token = admin.create_account(namespace, "carp", rules=RULES)
        kubeconfig = str(admin.write_kubeconfig(directory / "agents", token))
        meter = _Meter(plane)
        before = meter.watches()
        empty = await _rest(meter, size.seconds)
        labels = await _watching(stack, admin, namespace, directory)
        meter.begin()
        began = time.monotonic()
        agents = [stack.enter_context(Agent(name, namespace, kubeconfig)) for name in names[:2]]
        agents[0].is_now("master", "master-down")
        agents[1].is_now("backup", "start")
        stack.enter_context(Crowd(names[2:], namespace, kubeconfig, processes=size.processes))
        labelled = await labels.until(only(names[0], of=size.agents), "all agents have labelled their pods") - began
        await asyncio.sleep(_SETTLED)
        start = meter.used()
        sizes = {"backup": memory({"agent": agents[1].pid})["agent"]}
        steady = await _rest(meter, size.seconds)
        opened = dict(meter.watches() - before)
        failovers, failover = await _fail_over(meter, labels, agents, size)
        sizes["master"] = memory({"agent": agents[size.failovers % 2].pid})["agent"]
    update, get = _leases(meter, admin, namespace, size.renewals)
    return Result(
        size=size,
        kubernetes=str(admin.request("GET", "/version")["gitVersion"]),
        empty=empty,
        labelled=labelled,
        start=start,
        watches=opened,
        steady=steady,
        failovers=failovers,
        failover=failover,
        memory=sizes,
        update=update,
        get=get,
    )


def _create_pod(admin: Admin, namespace: str, name: str) -> None:
    admin.create_pod(namespace, name, node=node_of(name), labels={"app": "carp-sidecar"})
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    admin.request("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": ready})


async def _watching(stack: AsyncExitStack, admin: Admin, namespace: str, directory: Path) -> Labels:
    """Have a client watch the pods, by all rights."""
    kubeconfig = str(admin.write_kubeconfig(directory / "client", admin.access.token))
    plan = KubernetesPlan(pod_name="", pod_namespace=namespace, role_label="", kubeconfig=kubeconfig)
    transport = Transport(plan, MirrorStatus())
    stack.push_async_callback(transport.close)
    labels = Labels(KubernetesPods(namespace, transport))
    task = asyncio.create_task(labels.run())
    stack.push_async_callback(_cancelled, task)
    await labels.until(bool, "a client sees the pods")
    return labels


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _rest(meter: _Meter, seconds: float) -> Used:
    meter.begin()
    await asyncio.sleep(seconds)
    return meter.used()


async def _fail_over(meter: _Meter, labels: Labels, agents: list[Agent], size: Size) -> tuple[list[float], Used]:
    """Have one of two die and the other take over, again and again; who died comes back as a backup later."""
    meter.begin()
    taken = []
    for number in range(size.failovers):
        died, winner = agents[number % 2], agents[(number + 1) % 2]
        died.pause()
        began = time.monotonic()
        winner.is_now("master", "master-down")
        right = only(winner.pod, of=size.agents)
        taken.append(await labels.until(right, "the labels follow") - began)
        died.is_now("backup", "woke-late")
        died.resume()
        await asyncio.sleep(_SETTLED)
    return taken, meter.used()


def _leases(meter: _Meter, admin: Admin, namespace: str, times: int) -> tuple[Used, Used]:
    """Update a Lease, and read it, over one connection each, as a leader and a candidate of client-go do."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    lease: dict[str, Any] = {
        "metadata": {"name": "plndr-svcs-lock"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15},
    }
    lease = admin.request("POST", path, lease)
    url = urlsplit(admin.access.server)
    context = ssl.create_default_context(cadata=admin.access.ca)
    connection = HTTPSConnection(url.hostname or "", url.port, timeout=30, context=context)
    headers = {"Authorization": f"Bearer {admin.access.token}", "Content-Type": "application/json"}

    def ask(method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        text = None if body is None else json.dumps(body)
        connection.request(method, f"{path}/plndr-svcs-lock", text, headers)
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{method} of a Lease: {answer.status} {found.get('message')}")
        return found

    try:
        meter.begin()
        for _ in range(times):
            lease["spec"]["renewTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            lease = ask("PUT", lease)
            time.sleep(1 / _RATE)
        update = meter.used()
        meter.begin()
        for _ in range(times):
            ask("GET", None)
            time.sleep(1 / _RATE)
        return update, meter.used()
    finally:
        connection.close()
