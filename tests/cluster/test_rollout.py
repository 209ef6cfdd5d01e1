"""A rollout by the chart: real helm, API server and controllers, and the Job's command with its own rights.

Only the nodes are played (tests.fakes.nodes): kubelets, and an election that the worst wins: who is replaced later.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidecar.demo.admin import Admin
from sidecar.demo.controlplane import ControlPlane
from tests.fakes.helm import CHART, Helm
from tests.fakes.nodes import NODES, Nodes
from tests.netns.peers import until

pytestmark = [pytest.mark.cluster, pytest.mark.packaging]

VALUES = ("--set", "config.vhid=42,config.vips={10.0.0.200},minReadySeconds=0,password.existingSecret=any")
WAIT = ("--wait", "--wait-for-jobs", "--timeout", "2m")


@dataclasses.dataclass
class Site:
    """A release of the chart in a namespace of its own, and the nodes that it is on."""

    helm: Helm
    admin: Admin
    namespace: str
    nodes: Nodes

    def upgrade(self, *options: str, fails: bool = False) -> str:
        return self.helm.run("helm", "upgrade", "--install", "vip", CHART, *VALUES, *options, fails=fails)

    def revisions(self) -> dict[str, str]:
        """Which template each node's pod was made from."""
        return {
            pod["spec"]["nodeName"]: pod["metadata"]["labels"]["controller-revision-hash"] for pod in self.nodes.pods()
        }

    def job(self) -> set[str]:
        """The conditions of the newest release's Job."""
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        jobs = self.admin.request("GET", path)["items"]
        if len(jobs) != 1:  # the one of the release before is on its way out
            return set()
        return {each["type"] for each in jobs[0]["status"].get("conditions", ()) if each["status"] == "True"}

    def may(self, verb: str, resource: str, *, namespace: str = "", name: str = "vip-carp-sidecar") -> bool:
        """Whether the Job's account has a right."""
        kind, _, subresource = resource.partition("/")
        api = {"daemonsets": "apps", "controllerrevisions": "apps"}.get(kind, "")
        asked = {"verb": verb, "group": api, "resource": kind, "subresource": subresource, "name": name}
        spec = {
            "user": f"system:serviceaccount:{self.namespace}:vip-carp-sidecar-rollout",
            "resourceAttributes": {**asked, "namespace": namespace or self.namespace},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.admin.request("POST", path, {"spec": spec})["status"]["allowed"])

    def moves(self, label: str = "carp-role") -> int:
        return len(self.nodes.masters[label]) - 1


@pytest.fixture
def site(helm: Helm, managed_plane: ControlPlane, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """``request.param``: the labels of the groups, and which of them are on other pods than the sidecar's."""
    admin, namespace = managed_plane.admin, f"test-{secrets.token_hex(4)}"
    admin.create_namespace(namespace)
    kubeconfig = admin.write_kubeconfig(tmp_path / "kubeconfig", admin.access.token)
    config = yaml.safe_load(kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    kubeconfig.write_text(yaml.safe_dump(config))
    labels, elsewhere = getattr(request, "param", (("carp-role",), frozenset()))
    with Nodes(admin, namespace, labels=labels, elsewhere=elsewhere) as nodes:
        yield Site(helm.with_server(kubeconfig), admin, namespace, nodes)
        admin.request("DELETE", f"/api/v1/namespaces/{namespace}")


def test_an_upgrade_and_a_rollback_move_the_vip_once_whoever_is_master(site: Site) -> None:
    site.upgrade(*WAIT)
    first = site.revisions()
    assert set(first) == set(NODES)
    for number, master in enumerate(NODES[:2]):  # and the third below
        site.nodes.give("carp-role", master)
        before = site.revisions()
        site.upgrade("--set", f"podAnnotations.round=r{number}", *WAIT)

        after = site.revisions()
        assert set(after) == set(NODES), "all are there when helm returns"
        assert all(after[node] != before[node] for node in NODES), "and new"
        assert len(set(after.values())) == 1
        assert site.moves() == 1, site.nodes.masters
        told = site.nodes.logs[-1].splitlines()
        assert [line.split(":")[0] for line in told if "replacing" in line][-1] == master, "the master was the last"
        assert told[-1] == f"done: 3 replaced; carp-role moved once, master is {site.nodes.masters['carp-role'][-1]}"

    site.nodes.give("carp-role", "node-c")
    site.helm.run("helm", "rollback", "vip", "1", *WAIT)
    assert site.revisions() == first, "a template that was there before is the same revision"
    assert site.moves() == 1

    runs = len(site.nodes.logs)
    site.upgrade(*WAIT)  # to what the pods are already
    assert site.nodes.logs[runs:] == [
        f"done: 0 replaced; carp-role moved never, master is {site.nodes.masters['carp-role'][-1]}\n"
    ]
    assert site.moves() == 1, "nothing to replace, nothing touched"

    by_hand = ("--set", "updateStrategy.type=OnDelete,podAnnotations.round=hook")
    told = site.upgrade(*by_hand, "--wait", "--timeout", "5s", fails=True)
    assert "vip-carp-sidecar not ready. status: InProgress" in told, "helm waits for new pods; a hook comes after that"


def test_a_node_that_does_not_come_back_stops_it_a_new_try_goes_on_and_a_missing_right_is_named(site: Site) -> None:
    site.upgrade(*WAIT)
    site.nodes.give("carp-role", "node-a")
    before, runs = site.revisions(), len(site.nodes.logs)
    site.nodes.broken.add("node-b")
    change = ("--set", "podAnnotations.round=broken")
    site.upgrade(*change, "--set", "updateStrategy.nodeTimeoutSeconds=5")
    until(lambda: "Failed" in site.job(), "the Job has failed, and is not tried again")
    (told,) = site.nodes.logs[runs:]
    assert re.search(
        r"^carp-sidecar: rollout: node-b: pod \S+ is not ready, after 5 s; 2 more pods are as before$", told, re.M
    )
    after = site.revisions()
    assert {node for node in NODES if after[node] != before[node]} == {"node-b"}
    assert site.moves() == 0

    site.nodes.broken.clear()
    site.upgrade(*change, *WAIT)
    assert next(line for line in site.nodes.logs[-1].splitlines() if "replacing" in line).startswith("node-c: ")
    assert len(set(site.revisions().values())) == 1
    assert site.moves() == 1

    granted = {("get", "daemonsets"), ("list", "controllerrevisions"), ("list", "pods"), ("delete", "pods")}
    granted |= {("patch", "pods/status")}
    more = {("patch", "pods"), ("create", "pods"), ("create", "pods/exec"), ("get", "secrets"), ("patch", "daemonsets")}
    assert {right for right in granted | more if site.may(*right)} == granted
    assert not site.may("get", "daemonsets", name="another")
    assert not site.may("delete", "pods", namespace="default")
    site.upgrade("--set", "rbac.create=false,podAnnotations.round=none")
    until(lambda: "Failed" in site.job(), "the Job has failed")
    assert f"the right to get daemonsets in namespace {site.namespace} is missing (403)" in site.nodes.logs[-1]


THREE = ("carp-role-db", "carp-role-mail", "carp-role-web")


@pytest.mark.parametrize("site", [(THREE, frozenset({"carp-role-mail"}))], indirect=True)
def test_with_masters_on_every_node_only_the_vips_of_the_first_move_twice_and_with_a_free_node_none(site: Site) -> None:
    groups = [
        {"name": "db", "vhid": 42, "vips": ["10.0.0.200"]},
        {"name": "mail", "vhid": 43, "vips": ["10.0.0.201"], "target_selector": "app=mail"},
        {"name": "web", "vhid": 44, "vips": ["10.0.0.202"]},
    ]
    options = ("--set-json", f"config={json.dumps({'groups': groups})}")
    values = ("--set", "minReadySeconds=0,password.existingSecret=any")

    def upgrade(number: int, *masters: str) -> list[str]:
        for label, node in zip(THREE, masters, strict=bool(masters)):
            site.nodes.give(label, node)
        annotation = ("--set", f"podAnnotations.round=r{number}")
        site.helm.run("helm", "upgrade", "--install", "vip", CHART, *options, *values, *annotation, *WAIT)
        return site.nodes.logs[-1].splitlines()

    upgrade(0)
    told = upgrade(1, "node-a", "node-b", "node-b")
    assert [line.split(":")[0] for line in told if "replacing" in line] == ["node-c", "node-a", "node-b"]
    assert [site.moves(label) for label in THREE] == [1, 1, 1], told
    assert "node-a: asking node-b to stand aside for carp-role-db" in told

    told = upgrade(2, *NODES)
    assert [line.split(":")[0] for line in told if "replacing" in line] == list(NODES), "mail's master is seen"
    assert [site.moves(label) for label in THREE] == [2, 1, 1], told
    assert not any("stand-aside" in key for pod in site.nodes.pods() for key in pod["metadata"]["annotations"])

    site.nodes.deaf = set(NODES)  # as an older version is
    told = upgrade(3, "node-a", "node-b", "node-b")
    assert "node-a: node-b may take over and pass it on once more: no answer" in told
    assert [site.moves(label) for label in THREE] == [2, 1, 1], told
