"""`kubectl describe node` tells of the node's VIP, where a Role in the namespace default allows that; without it the
pod's Events are as they were. The real kubectl asks a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.demo.controlplane import ControlPlane
from sidecar.doctor import rights
from sidecar.ipc.plan import KubernetesPlan
from tests.cluster.agents import VIP, Api, node, running, until
from tests.cluster.conftest import ROLE_RULES, rules_of
from tests.fakes.helm import Helm

pytestmark = [pytest.mark.cluster, pytest.mark.packaging]

RULES = yaml.safe_load(ROLE_RULES.with_name("default-role-rules.yaml").read_text())["node_events"]
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
TOLD = f"took the VIP {VIP}: no advert from 10.0.0.11 for 3.000 s"


class Site:
    """A node whose agent writes Events on it, with these rights in ``default``."""

    def __init__(self, plane: ControlPlane, namespace: str, directory: Path, verbs: Sequence[str]) -> None:
        admin = plane.admin
        self.name = namespace  # of the node and the pod, too: others' nodes are in ``default`` as well
        admin.create_namespace(namespace)
        admin.create_node(f"node-{namespace}")
        rules = [{**rule, "verbs": list(verbs)} for rule in RULES] if verbs else []
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": namespace}
        account = {"kind": "ServiceAccount", "name": "carp", "namespace": namespace}
        metadata = {"name": namespace}
        admin.request("POST", f"{RBAC}/roles", {"metadata": metadata, "rules": rules})
        binding = {"metadata": metadata, "roleRef": reference, "subjects": [account]}
        admin.request("POST", f"{RBAC}/rolebindings", binding)
        token = admin.create_account(namespace, "carp", rules=rules_of("mirror", "events"))
        self.kubeconfig = str(admin.write_kubeconfig(directory / namespace, token))
        self.api = Api(admin, namespace)
        self.agent = node(namespace, namespace, self.kubeconfig, events=True, node_events=True)

    def missing(self) -> set[str]:
        return self.agent.mirror.status.missing_rights

    def refused_by_the_doctor(self) -> list[str]:
        plan = KubernetesPlan(
            pod_name=self.name,
            pod_namespace=self.name,
            role_label="carp-role",
            kubeconfig=self.kubeconfig,
            events=True,
            node_events=True,
        )
        answer = rights.ask(plan)
        assert not isinstance(answer, str), answer
        return [str(right) for right in answer if not right.granted]

    async def pod_is_told(self, times: int) -> bool:
        found = (await self.api.get("v1:events") or {})["items"]
        assert {each["involvedObject"]["kind"] for each in found} <= {"Pod"}
        return any((each["reason"], each["count"], each["message"]) == ("TookVIP", times, TOLD) for each in found)

    def take(self) -> None:
        self.agent.is_now("master", "master-down", TOLD.partition(": ")[2])


def test_describe_node_tells_who_took_the_vip_and_each_right_that_is_missing_is_named(
    control_plane: ControlPlane, namespace: str, helm: Helm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin = control_plane.admin
    (rule,) = RULES
    every: list[str] = rule["verbs"]
    granted = {"all": every, **{f"no-{verb}": [each for each in every if each != verb] for verb in every}}
    kubectl = helm.with_server(admin.write_kubeconfig(tmp_path / "administrator", admin.access.token))
    sites = {name: Site(control_plane, f"{namespace}-{name}", tmp_path, verbs) for name, verbs in granted.items()}

    async def described(name: str) -> list[str]:
        said = await asyncio.to_thread(kubectl.run, "kubectl", "describe", "node", f"node-{sites[name].name}")
        return [line for line in said.partition("\nEvents:")[2].splitlines() if TOLD in line]

    async def shows(name: str, *words: str) -> Any:
        lines = await described(name)
        return lines and all(word in lines[0] for word in words)

    async def story() -> None:
        for site in sites.values():
            await site.api.create_pod(site.name, "10.1.0.1")
        async with running([site.agent for site in sites.values()]):
            for site in sites.values():
                site.take()
            for name in ("all", "no-patch"):
                await until(lambda name=name: shows(name, "carp-sidecar", "TookVIP"), f"{name}: the first")
            for site in sites.values():
                site.agent.is_now("backup", "better-master")
                site.take()
            for name, site in sites.items():
                await until(lambda site=site: site.pod_is_told(2), f"{name}: the pod's Events do not depend on it")
            await until(lambda: shows("all", "(x2 over "), "it was told twice")
            for verb in every:
                lacking = sites[f"no-{verb}"]
                await until(lambda lacking=lacking: asyncio.sleep(0, lacking.missing()), f"{verb} is missing")
                assert lacking.missing() == {f"{verb} events"}
                assert f"the right to {verb} events in namespace default is missing" in caplog.text
            assert sites["all"].missing() == set()
            assert await described("no-create") == []

    asyncio.run(story())
    refused = {name: site.refused_by_the_doctor() for name, site in sites.items()}
    assert refused == {"all": [], **{f"no-{verb}": [f"{verb} events in namespace default"] for verb in every}}
