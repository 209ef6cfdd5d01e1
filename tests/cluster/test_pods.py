"""What becomes of pods on a real API server: edited by others, made anew under their name, stuck, chosen by label."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.controlplane import ControlPlane
from sidecar.ipc.plan import MirrorPlan
from tests.cluster.agents import Api, node, running, until
from tests.cluster.conftest import rules_of

pytestmark = pytest.mark.cluster


class Pods:
    """The pods of a namespace, by name."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.api.namespace}/pods/{name}"

    async def metadata(self, name: str) -> dict[str, Any]:
        return (await self.api.call("GET", self.path(name)))["metadata"]

    async def edit(self, name: str, **metadata: Any) -> None:
        await self.api.call("PATCH", self.path(name), {"metadata": metadata})

    async def says(self, name: str, role: str) -> bool:
        return (await self.metadata(name))["labels"].get("carp-role") == role


@pytest.fixture
def api(control_plane: ControlPlane, namespace: str) -> Api:
    return Api(control_plane.admin, namespace)


@pytest.fixture
def kubeconfig(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> str:
    token = control_plane.admin.create_account(namespace, "carp", rules=rules_of("mirror"))
    return str(control_plane.admin.write_kubeconfig(tmp_path / "config", token))


def test_the_label_is_put_back_comes_with_each_new_pod_and_leaves_one_that_is_stuck(api: Api, kubeconfig: str) -> None:
    pods = Pods(api)

    async def story() -> None:
        a, b = (node(name, api.namespace, kubeconfig) for name in "ab")
        for number, name in enumerate("ab", start=1):
            await api.create_pod(name, f"10.1.0.{number}")
        async with running([a]):
            a.is_now("master", "master-down")
            await until(lambda: api.masters_are("a"), "a says master")
            for label in ("backup", None):  # another one, and none at all
                await pods.edit("a", labels={"carp-role": label})
                await until(lambda: pods.says("a", "master"), f"{label} is put back")
            before = (await pods.metadata("a"))["uid"]
            await api.call("DELETE", pods.path("a"), {"gracePeriodSeconds": 0})
            await api.create_pod("a", "10.1.0.3")
            await until(lambda: pods.says("a", "master"), "the next pod of that name says so")
            assert (await pods.metadata("a"))["uid"] != before
        # Its node is dead: nobody ends the pod, and a finalizer holds it too.
        await pods.edit("a", finalizers=["carp-sidecar.test/stuck"])
        await api.call("DELETE", pods.path("a"))
        assert "deletionTimestamp" in await pods.metadata("a")
        async with running([b]):
            b.is_now("master", "master-down")
            await until(lambda: api.masters_are("b"), "b says master, and a no more")
        stuck = await pods.metadata("a")
        assert stuck["labels"]["carp-role"] == "backup"
        assert stuck["annotations"]["carp-sidecar/reason"] == "superseded by b"
        assert "deletionTimestamp" in stuck

    asyncio.run(story())


def test_a_target_selector_has_the_pods_of_this_node_carry_the_role(api: Api, kubeconfig: str) -> None:
    pods = Pods(api)

    async def story() -> None:
        for name, on in (("web", "node-a"), ("elsewhere", "node-b")):
            await asyncio.to_thread(api.admin.create_pod, api.namespace, name, node=on, labels={"app": "web"})
        await api.create_pod("a", "10.1.0.1")
        a = node("a", api.namespace, kubeconfig, mirror=MirrorPlan(target_selector="app=web"))
        async with running([a]):
            a.is_now("master", "master-down")
            await until(lambda: api.masters_are("web"), "the chosen pod says master")
            await asyncio.to_thread(api.admin.create_pod, api.namespace, "late", node="node-a", labels={"app": "web"})
            await until(lambda: pods.says("late", "master"), "so does one that comes later")
        for name in ("a", "elsewhere"):
            assert "carp-role" not in (await pods.metadata(name))["labels"], name

    asyncio.run(story())
