"""The calls of a rollout: what is asked, and what is made of the answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sidecar.agent.transport import Call
from sidecar.rollout.cluster import KubernetesCluster, RolloutError
from sidecar.rollout.plan import Pod

OURS = [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "vip", "uid": "ds-1"}]


def daemonset(**spec: object) -> dict[str, Any]:
    return {
        "metadata": {"name": "vip", "uid": "ds-1", "generation": 4},
        "spec": {"updateStrategy": {"type": "OnDelete"}, "minReadySeconds": 10, **spec},
        "status": {"observedGeneration": 4, "desiredNumberScheduled": 2},
    }


def revision(text: str, number: int, *, owner: str = "ds-1") -> dict[str, Any]:
    labels = {"controller-revision-hash": text}
    metadata = {"name": f"vip-{text}", "uid": text, "labels": labels, "ownerReferences": [{"uid": owner}]}
    return {"metadata": metadata, "revision": number, "data": {}}


def pod(name: str, node: str, labels: dict[str, str], *, ready: str = "True", ours: bool = True) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"u-{name}", "resourceVersion": "7", "labels": labels}
    return {
        "metadata": {**metadata, **({"ownerReferences": OURS} if ours else {})},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }


class FakeTransport:
    def __init__(self, *answers: object) -> None:
        self.answers = [json.dumps(answer).encode() for answer in answers]
        self.calls: list[Call] = []

    async def request(self, call: Call) -> bytes:
        self.calls.append(call)
        return self.answers.pop(0)


def cluster(*answers: object, role_label: str = "carp-role") -> tuple[KubernetesCluster, FakeTransport]:
    transport = FakeTransport(*answers)
    found = KubernetesCluster(
        transport,  # type: ignore[arg-type]
        namespace="carp",
        daemonset="vip",
        role_label=role_label,
    )
    return found, transport


def test_it_reads_the_daemonset_its_newest_revision_and_its_pods() -> None:
    revisions = {"items": [revision("old", 3), revision("new", 5), revision("stranger", 9, owner="ds-2")]}
    pods = {
        "items": [
            pod("vip-a", "node-a", {"controller-revision-hash": "old", "carp-role": "master"}),
            pod("vip-b", "node-b", {"controller-revision-hash": "new", "carp-role": "backup"}, ready="False"),
            pod("other", "node-a", {"carp-role": "backup", "carp-roleplay": "yes"}, ours=False),
        ]
    }
    asked, transport = cluster(daemonset(), revisions, pods)
    fleet = asyncio.run(asked.look())
    assert (fleet.revision, fleet.observed, fleet.desired, fleet.min_ready) == ("new", True, 2, 10)
    assert fleet.pods[0] == Pod(
        name="vip-a",
        uid="u-vip-a",
        resource_version="7",
        node="node-a",
        revision="old",
        ready=True,
        terminating=False,
    )
    assert [(each.node, each.ready) for each in fleet.pods] == [("node-a", True), ("node-b", False)]
    assert fleet.roles == {"carp-role": {"node-a": "master", "node-b": "backup"}}, "not what another's pod says"
    assert [(call.verb, call.resource, call.path) for call in transport.calls] == [
        ("get", "daemonsets", "/apis/apps/v1/namespaces/carp/daemonsets/vip"),
        ("list", "controllerrevisions", "/apis/apps/v1/namespaces/carp/controllerrevisions"),
        ("list", "pods", "/api/v1/namespaces/carp/pods"),
    ]
    assert [call.what for call in transport.calls][:1] == ["DaemonSet carp/vip"]


def test_a_template_that_was_not_observed_or_has_no_revision_is_not_there_yet() -> None:
    behind = daemonset()
    behind["metadata"]["generation"] = 5
    for read, revisions in ((behind, [revision("old", 1)]), (daemonset(), [])):
        asked, _ = cluster(read, {"items": revisions}, {"items": None})
        assert asyncio.run(asked.look()).observed is False


def test_roles_of_several_groups_and_of_pods_that_carry_them_for_the_sidecar() -> None:
    hashed = {"controller-revision-hash": "new"}
    dying = pod("app-2", "node-b", {"vip/role-db": "master"}, ours=False)
    dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pods = [
        pod("vip-a", "node-a", {**hashed, "vip/role-web": "backup"}),
        pod("vip-b", "node-b", hashed),
        pod("app-1", "node-b", {"vip/role-db": "backup"}, ours=False),
        dying,
        pod("app-3", "node-c", {"vip/role-db": "master"}, ours=False),
    ]
    asked, _ = cluster(daemonset(), {"items": [revision("new", 1)]}, {"items": pods}, role_label="vip/role")
    fleet = asyncio.run(asked.look())
    assert fleet.roles == {"vip/role-web": {"node-a": "backup"}, "vip/role-db": {"node-b": "master"}}
    assert fleet.elsewhere == {"vip/role-db"}


def test_a_daemonset_that_replaces_its_pods_itself_is_refused() -> None:
    asked, _ = cluster(daemonset(updateStrategy={"type": "RollingUpdate"}))
    with pytest.raises(RolloutError, match=r"carp/vip has updateStrategy RollingUpdate: .*; set OnDelete"):
        asyncio.run(asked.look())


def test_a_pod_is_deleted_as_it_was_read_or_not_at_all() -> None:
    asked, transport = cluster({})
    one = Pod(name="vip-a", uid="u-1", resource_version="7", node="n", revision="r", ready=True, terminating=False)
    asyncio.run(asked.delete(one))
    (call,) = transport.calls
    assert (call.verb, call.resource, call.path) == ("delete", "pods", "/api/v1/namespaces/carp/pods/vip-a")
    assert call.body == {"preconditions": {"uid": "u-1", "resourceVersion": "7"}}


def test_a_pod_is_asked_to_stand_aside_by_a_right_that_changes_no_container() -> None:
    asked, transport = cluster({})
    one = Pod(name="vip-a", uid="u-1", resource_version="7", node="n", revision="r", ready=True, terminating=False)
    asyncio.run(asked.ask(one, "vip-b: carp-role"))
    (call,) = transport.calls
    assert (call.verb, call.resource) == ("patch", "pods/status")
    assert (call.path, call.what) == ("/api/v1/namespaces/carp/pods/vip-a/status", "pod carp/vip-a")
    assert call.content_type == "application/merge-patch+json"
    assert call.body == {"metadata": {"uid": "u-1", "annotations": {"carp-sidecar/stand-aside": "vip-b: carp-role"}}}

    answered = pod("vip-a", "node-a", {"controller-revision-hash": "old"})
    answered["metadata"]["annotations"] = {
        "carp-sidecar/stand-aside": "vip-b: carp-role",
        "carp-sidecar/stands-aside": "vip-b: carp-role",
    }
    asked, _ = cluster(daemonset(), {"items": [revision("new", 1)]}, {"items": [answered]})
    (found,) = asyncio.run(asked.look()).pods
    assert (found.asked, found.answered) == ("vip-b: carp-role", "vip-b: carp-role")
