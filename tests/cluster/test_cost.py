"""What the mirror costs by the API server's own count: nothing while nothing changes, one patch for each change."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.mirror.requests import between, counted, writes
from sidecar.agent import follow
from sidecar.demo.controlplane import ControlPlane
from tests.cluster.agents import EVERYTHING, Api, Node, node, running, until
from tests.cluster.conftest import rules_of
from tests.cluster.test_mirror import FEATURES, ON, create_services

pytestmark = pytest.mark.cluster

LISTS_OF_AN_HOUR = 12
"""An agent reads everything anew each 300 to 600 s."""


async def count(api: Api) -> Counter[str]:
    _, metrics = await asyncio.to_thread(api.admin.send, "GET", "/metrics")
    return counted(metrics.decode())


async def say_so(api: Api, name: str, role: str) -> Any:
    pod = await api.get(f"v1:pods/{name}")
    return pod and pod["metadata"]["labels"].get("carp-role") == role


async def gives_reason(api: Api, name: str, reason: str) -> Any:
    pod = await api.get(f"v1:pods/{name}")
    return pod and pod["metadata"]["annotations"].get("carp-sidecar/reason") == reason


def lists(each: Node) -> int:
    return each.mirror.status.requests["list", "pods", "200"]


def test_an_hour_in_which_nothing_changes_writes_nothing(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all features on. Of the hour, only the waiting is left out: watches last a second and not ten minutes."""
    for name, seconds in {"SHORTEST_WATCH": 1, "LONGEST_WATCH": 1, "_SOUND": 0.5}.items():
        monkeypatch.setattr(follow, name, seconds)
    admin = control_plane.admin
    token = admin.create_account(namespace, "carp", rules=rules_of(*FEATURES))
    kubeconfig = str(admin.write_kubeconfig(tmp_path / "config", token))
    api = Api(admin, namespace)

    async def story() -> dict[str, int]:
        await create_services(api)
        nodes = {name: node(name, namespace, kubeconfig, mirror=EVERYTHING, **ON) for name in "abc"}
        for number, name in enumerate(nodes):
            await api.create_pod(name, f"10.1.0.{number + 1}")
        async with running(list(nodes.values())):
            nodes["a"].is_now("master", "master-down")
            for name in "bc":
                nodes[name].is_now("backup", "start")
                await until(lambda name=name: say_so(api, name, "backup"), f"{name} says backup")  # type: ignore[misc]

            async def all_told() -> bool:
                slice_ = await api.get("discovery.k8s.io/v1:endpointslices/own-carp-ipv4")
                lease = await api.get("coordination.k8s.io/v1:leases/carp-sidecar-default")
                balanced = await api.get("v1:services/balanced")
                events = await api.get("v1:events")
                ingress = balanced and balanced["status"]["loadBalancer"].get("ingress")
                return bool(slice_ and lease and ingress and events and len(events["items"]) >= 2)

            await until(all_told, "everything that a master writes")
            await asyncio.sleep(1)
            before, read = await count(api), {name: lists(each) for name, each in nodes.items()}

            async def an_hour_is_over() -> bool:
                return all(lists(each) >= read[name] + LISTS_OF_AN_HOUR for name, each in nodes.items())

            await until(an_hour_is_over, "as many lists as in an hour")
            return between(before, await count(api))

    made = asyncio.run(story())
    print(made)
    assert made["LIST pods"] >= 3 * LISTS_OF_AN_HOUR, "the server counts what the agents do"
    assert writes(made) == {}


@pytest.mark.parametrize("changes", [{}, ON], ids=["as by default", "with everything"])
def test_a_change_of_role_is_one_patch_of_each_pod_that_it_concerns(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    admin = control_plane.admin
    token = admin.create_account(namespace, "carp", rules=rules_of(*FEATURES))
    kubeconfig = str(admin.write_kubeconfig(tmp_path / "config", token))
    api = Api(admin, namespace)

    async def patches(since: Counter[str]) -> int:
        await asyncio.sleep(1)  # one too many would come now
        made = writes(between(since, await count(api)))
        return sum(n for name, n in made.items() if "pods" in name)  # by the status where the condition changes

    async def story() -> None:
        for number, name in enumerate("abc"):
            await api.create_pod(name, f"10.1.0.{number + 1}")
        a, b, c = (node(name, namespace, kubeconfig, **changes) for name in "abc")
        begun = await count(api)
        async with running([b, c]):
            async with running([a]):
                a.is_now("master", "master-down")
                for each in (b, c):
                    each.is_now("backup", "start")
                    await until(lambda name=each.name: say_so(api, name, "backup"), "a backup")  # type: ignore[misc]
                await until(lambda: api.masters_are("a"), "a")
                assert await patches(begun) == 3, "each pod once"
            died = await count(api)
            b.is_now("master", "master-down")
            await until(lambda: api.masters_are("b"), "b")
            assert await patches(died) == 2, "its own, and the dead one's"
            again = node("a", namespace, kubeconfig, **changes)
            async with running([again]):
                back = await count(api)
                again.is_now("backup", "start")
                await until(lambda: gives_reason(api, "a", "start"), "it says itself why it is none")
                assert await patches(back) == 1, "it says itself why it is none"
                planned = await count(api)
                b.is_now("backup", "bow-out")
                await until(lambda: say_so(api, "b", "backup"), "b lets go")
                again.is_now("master", "bow-out")
                await until(lambda: api.masters_are("a"), "a is back")
                assert await patches(planned) == 2, "each of the two for itself"

    asyncio.run(story())
