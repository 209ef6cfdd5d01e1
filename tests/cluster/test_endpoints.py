"""Kubernetes' own controllers behind the mirror: the EndpointSlices of a Service that selects the label follow it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sidecar.demo.controlplane import ControlPlane, find_assets
from tests.cluster.agents import Api, node, running, until
from tests.cluster.clients import ServiceClient, administrator, play_kubelet
from tests.cluster.conftest import missing, rules_of
from tests.fakes.proxy import Fault, opened
from tests.fakes.tasks import together

pytestmark = pytest.mark.cluster

ADDRESSES = {"a": "10.1.0.1", "b": "10.1.0.2", "c": "10.1.0.3"}
GATE = "carp-sidecar/master"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """One with a controller manager."""
    assets = find_assets()
    if assets is None or assets.controller_manager is None:
        missing("kube-controller-manager")
    with ControlPlane(assets, controller_manager=True) as plane:
        for name in ADDRESSES:
            plane.admin.create_node(f"node-{name}")
        yield plane


async def create_service(api: Api, name: str, selector: dict[str, str]) -> None:
    spec = {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    await api.call("POST", f"/api/v1/namespaces/{api.namespace}/services", {"metadata": {"name": name}, "spec": spec})


def test_a_namespace_that_is_deleted_goes(control_plane: ControlPlane) -> None:
    """The controller manager works, whatever becomes of the mirror."""
    control_plane.admin.create_namespace("short-lived")
    control_plane.admin.request("DELETE", "/api/v1/namespaces/short-lived")

    async def is_gone() -> bool:
        path = "/api/v1/namespaces/short-lived"
        return (await asyncio.to_thread(control_plane.admin.send, "GET", path))[0] == 404

    asyncio.run(until(is_gone, "the namespace's end"))


def test_a_service_that_selects_the_label_has_the_master_and_never_two(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    admin = control_plane.admin
    token = admin.create_account(namespace, "carp", rules=rules_of("mirror"))
    api = Api(admin, namespace)
    chance = random.Random(7)
    lags: list[float] = []

    async def story() -> ServiceClient:
        await create_service(api, "web", {"carp-role": "master"})
        for name, address in ADDRESSES.items():
            await api.create_pod(name, address)
        async with AsyncExitStack() as stack:
            proxies = {name: await stack.enter_async_context(opened(admin.access)) for name in ADDRESSES}
            nodes = {
                name: node(name, namespace, proxy.kubeconfig(tmp_path / name, token)) for name, proxy in proxies.items()
            }
            client = ServiceClient(await stack.enter_async_context(administrator(admin, tmp_path)), namespace, "web")
            await stack.enter_async_context(together(client.run()))
            await stack.enter_async_context(running(list(nodes.values())))
            nodes["a"].is_now("master", "master-down")
            await until(lambda: client.knows({ADDRESSES["a"]: True}), "the first master's address")
            master = "a"
            for _ in range(10):
                winner = chance.choice([name for name in nodes if name != master])
                dies = chance.random() < 0.5
                if dies:  # with its agent: nobody but the winner relabels its pod
                    proxies[master].become(Fault.REFUSE)
                else:
                    nodes[master].is_now("backup", "better-master")
                nodes[winner].is_now("master", "master-down" if dies else "preempt")
                began = time.monotonic()
                want = {ADDRESSES[winner]: True}
                await until(lambda want=want: client.knows(want), f"{winner}'s address and no other")  # type: ignore[misc]
                lags.append(time.monotonic() - began)
                if dies:
                    nodes[master].is_now("backup", "woke-late")
                    proxies[master].become(Fault.NONE)
                master = winner
            await asyncio.sleep(1)
        return client

    client = asyncio.run(story())
    lags.sort()
    print(f"the EndpointSlice followed after {lags[5]:.2f} s (median), {lags[-1]:.2f} s at most; {client.views}")
    assert max(map(len, client.views)) == 1, client.views
    assert len([view for view in client.views if view]) == 1 + 10, "it went from one to the next, and to no third"


def test_behind_a_readiness_gate_only_the_masters_endpoint_is_ready(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """A Service of all pods. The kubelet's part, Ready out of the condition, is played."""
    admin = control_plane.admin
    token = admin.create_account(namespace, "carp", rules=rules_of("mirror", "readiness_condition"))
    kubeconfig = str(admin.write_kubeconfig(tmp_path / "config", token))
    api = Api(admin, namespace)

    def only(master: str) -> dict[str, bool]:
        return {address: name == master for name, address in ADDRESSES.items()}

    async def story() -> None:
        await create_service(api, "all", {"app": "carp"})
        for name, address in ADDRESSES.items():
            await api.create_pod(name, address, gates=[GATE])
        nodes = {name: node(name, namespace, kubeconfig, readiness_condition=True) for name in ADDRESSES}
        async with administrator(admin, tmp_path) as transport:
            client = ServiceClient(transport, namespace, "all")
            async with together(client.run(), play_kubelet(transport, namespace)), running(list(nodes.values())):
                await until(lambda: client.knows(only("nobody")), "no endpoint is ready before there is a master")
                nodes["a"].is_now("master", "master-down")
                for name in "bc":
                    nodes[name].is_now("backup", "start")
                await until(lambda: client.knows(only("a")), "a's is ready")
                nodes["b"].is_now("master", "master-down")  # a's sidecar is dead, its kubelet is not
                await until(lambda: client.knows(only("b")), "b's is ready, and a's is not")
                nodes["a"].is_now("master", "preempt")
                nodes["b"].is_now("backup", "better-master")
                await until(lambda: client.knows(only("a")), "a's is ready again")

    asyncio.run(story())
