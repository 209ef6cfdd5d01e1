"""The chart and the manifests on a real API server: installed, upgraded, validated, with the rights that they give."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.demo.admin import ApiError
from sidecar.demo.controlplane import ControlPlane
from sidecar.doctor import rights
from sidecar.ipc.plan import KubernetesPlan
from tests.fakes.helm import CHART, EXAMPLES, MANIFESTS, Helm
from tests.netns.peers import until

pytestmark = [pytest.mark.cluster, pytest.mark.packaging]

GROUP = ("--set", "config.vhid=42", "--set", "config.vips={10.0.0.200}")


@pytest.fixture
def cluster(helm: Helm, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Helm:
    """helm and kubectl as the administrator of the test's server, in the test's namespace."""
    admin = control_plane.admin
    kubeconfig = admin.write_kubeconfig(tmp_path / "kubeconfig", admin.access.token)
    config = yaml.safe_load(kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    kubeconfig.write_text(yaml.safe_dump(config))
    return helm.with_server(kubeconfig)


@pytest.fixture
def get(control_plane: ControlPlane, namespace: str) -> Callable[[str, str], dict[str, Any]]:
    """Read an object of the test's namespace: ``get("secrets", "name")``."""

    def read(kind: str, name: str) -> dict[str, Any]:
        api = {"daemonsets": "apis/apps/v1", "roles": "apis/rbac.authorization.k8s.io/v1"}.get(kind, "api/v1")
        return control_plane.admin.request("GET", f"/{api}/namespaces/{namespace}/{kind}/{name}")

    return read


def test_a_password_is_generated_once_and_outlives_upgrades_and_the_release(
    cluster: Helm, get: Callable[[str, str], dict[str, Any]], namespace: str
) -> None:
    def password() -> bytes:
        return base64.b64decode(get("secrets", "carp-sidecar-password")["data"]["password"])

    dry = cluster.run("helm", "install", "carp-sidecar", CHART, *GROUP, "--dry-run=server")
    assert "kind: DaemonSet" in dry
    with pytest.raises(ApiError, match="not found"):
        password()

    elsewhere = ("install", "carp-sidecar", CHART, *GROUP, "--namespace", f"{namespace}-new", "--create-namespace")
    assert "kind: Secret" in cluster.run("helm", *elsewhere, "--dry-run=server")
    by_hand = ("--set", "updateStrategy.type=OnDelete,config.role_label=vip/role", "--dry-run=server")
    command = f"carp-sidecar rollout -n {namespace}-new --daemonset carp-sidecar --role-label vip/role "
    assert command in cluster.run("helm", *elsewhere, *by_hand), "nothing else would bring new pods"
    by_selector = ("--set", "config.target_selector=app\\=web")
    assert "carp-role=master." in cluster.run("helm", *elsewhere, *by_selector)

    notes = cluster.run("helm", "install", "carp-sidecar", CHART, *GROUP)
    assert "carp-role=master -o wide" in notes
    first = password()
    assert re.fullmatch(rb"[A-Za-z0-9]{19}", first), "ucarp and the BSDs take 19 bytes"
    assert get("daemonsets", "carp-sidecar")["spec"]["template"]["spec"]["hostNetwork"] is True
    assert "get secret carp-sidecar-password" in notes

    upgrade = ("upgrade", "carp-sidecar", CHART, "--reuse-values", "--set", "config.preempt=true")
    cluster.run("helm", *upgrade)
    assert password() == first
    assert "preempt: true" in get("configmaps", "carp-sidecar")["data"]["config.yaml"]
    cluster.run("helm", "rollback", "carp-sidecar", "1")
    assert password() == first
    assert "preempt" not in get("configmaps", "carp-sidecar")["data"]["config.yaml"]

    other_key = cluster.run("helm", *upgrade, "--set", "password.key=other", fails=True)
    assert "password.key: the Secret carp-sidecar-password has no other" in other_key
    assert password() == first

    cluster.run("helm", "uninstall", "carp-sidecar")
    with pytest.raises(ApiError, match="not found"):
        get("daemonsets", "carp-sidecar")
    cluster.run("helm", "install", "carp-sidecar", CHART, *GROUP)
    assert password() == first
    assert first.decode() not in notes


def test_a_secret_of_the_users_is_taken_as_it_is(cluster: Helm, get: Callable[[str, str], dict[str, Any]]) -> None:
    cluster.run(
        "kubectl",
        "create",
        "secret",
        "generic",
        "carp-sidecar-passwords",
        "--from-literal=web=a",
        "--from-literal=db=b",
    )
    before = get("secrets", "carp-sidecar-passwords")
    cluster.run("helm", "install", "carp-sidecar", CHART, "--values", EXAMPLES / "active-active.yaml")
    assert get("secrets", "carp-sidecar-passwords") == before
    with pytest.raises(ApiError, match="not found"):
        get("secrets", "carp-sidecar-password")
    volumes = get("daemonsets", "carp-sidecar")["spec"]["template"]["spec"]["volumes"]
    assert {"secretName": "carp-sidecar-passwords", "defaultMode": 0o400} in [each.get("secret") for each in volumes]
    assert get("services", "carp-sidecar-master-web")["spec"]["selector"]["carp-role-web"] == "master"


def test_the_server_takes_every_example_and_every_manifest_to_the_letter(cluster: Helm, namespace: str) -> None:
    """Strict validation: a field that the server does not know is an error."""
    check = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
    for example in sorted(EXAMPLES.glob("*.yaml")):
        text = cluster.run("helm", "template", example.stem, CHART, "--namespace", namespace, "--values", example)
        assert "daemonset.apps" in cluster.run("kubectl", *check, text=text), example
    for folder in ("base", "overlays/two-node", "overlays/mixed"):
        made = cluster.run("kubectl", "apply", "--dry-run=server", "--validate=strict", "-k", MANIFESTS / folder)
        assert "daemonset.apps/carp-sidecar created" in made, folder
    static = MANIFESTS / "overlays/control-plane/carp-sidecar.yaml"
    assert "pod/carp-sidecar created" in cluster.run("kubectl", *check[:-1], static)
    with_typo = static.read_text().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")
    assert "unknown field" in cluster.run("kubectl", *check, text=with_typo, fails=True)


def test_the_account_of_a_release_has_the_rights_of_the_role_and_no_more(
    cluster: Helm, get: Callable[[str, str], dict[str, Any]], namespace: str
) -> None:
    cluster.run("helm", "install", "carp-sidecar", CHART, *GROUP)
    features = yaml.safe_load((CHART / "files/role-rules.yaml").read_text())
    rules = [*features["events"], *features["mirror"]]
    assert get("roles", "carp-sidecar")["rules"] == rules
    granted = {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    account = f"--as=system:serviceaccount:{namespace}:carp-sidecar"
    for verb, resource in granted:
        assert cluster.run("kubectl", "auth", "can-i", verb, resource, account) == "yes\n", (verb, resource)
    for verb, resource in {("delete", "pods"), ("get", "secrets"), ("create", "pods"), ("get", "nodes")} - granted:
        assert cluster.run("kubectl", "auth", "can-i", verb, resource, account, fails=True).endswith("no\n")
    elsewhere = cluster.run("kubectl", "auth", "can-i", "get", "pods", account, "--namespace=default", fails=True)
    assert elsewhere.endswith("no\n")


def test_the_doctor_tells_which_rights_the_account_has(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    rules = yaml.safe_load((CHART / "files/role-rules.yaml").read_text())["mirror"]
    admin = control_plane.admin
    with_role = admin.create_account(namespace, "with-role", rules=rules)
    reader = admin.create_account(namespace, "reader", rules=[{**rules[0], "verbs": ["list"]}])

    def granted(token: str, *, node: str = "", **features: bool) -> dict[tuple[str, str], bool]:
        kubeconfig = admin.write_kubeconfig(tmp_path / "account", token)
        plan = KubernetesPlan(
            pod_name="any", pod_namespace=namespace, role_label="carp-role", kubeconfig=str(kubeconfig), **features
        )
        answer = rights.ask(plan, node=node)
        assert not isinstance(answer, str), answer
        return {(right.verb, right.resource): right.granted for right in answer}

    assert granted(with_role) == dict.fromkeys(rights.NEEDED["mirror"], True)
    assert [right for right, has in granted(reader).items() if has] == [("list", "pods")]

    name, api = f"{namespace}-nodes", "/apis/rbac.authorization.k8s.io/v1"  # as the chart's, with rbac.nodeNames
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"], "resourceNames": ["node-a"]}
    admin.request("POST", f"{api}/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    account = {"kind": "ServiceAccount", "name": "with-role", "namespace": namespace}
    binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [account]}
    admin.request("POST", f"{api}/clusterrolebindings", binding)
    needed = (*rights.NEEDED["mirror"], *rights.NEEDED["cordon"])
    until(
        lambda: granted(with_role, node="node-a", cordon=True) == dict.fromkeys(needed, True),
        "the server acts on the binding",
    )
    assert not granted(with_role, node="node-b", cordon=True)["list", "nodes"]


@pytest.fixture
def one_master(
    cluster: Helm, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> Callable[[], subprocess.CompletedProcess[str]]:
    """Run what the pod of `helm test` runs, as the pod would: with its account, its arguments and its environment."""
    cluster.run("helm", "install", "carp-sidecar", CHART, *GROUP)
    hooks = cluster.run("helm", "get", "hooks", "carp-sidecar")
    (container,) = yaml.safe_load(hooks)["spec"]["containers"]
    admin = control_plane.admin
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/carp-sidecar/token"
    (tmp_path / "token").write_text(admin.request("POST", path, {"spec": {}})["status"]["token"])
    (tmp_path / "ca.crt").write_text(admin.access.ca)
    host, port = admin.access.server.removeprefix("https://").rsplit(":", 1)
    environment = {
        **os.environ,
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "SERVICE_ACCOUNT_DIR": str(tmp_path),
        "WAIT_SECONDS": "0",
    }
    command = [sys.executable, *container["command"][1:], *container["args"]]
    return lambda: subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_helm_test_counts_the_masters_of_each_group(
    one_master: Callable[[], subprocess.CompletedProcess[str]], control_plane: ControlPlane, namespace: str
) -> None:
    ours = {"app.kubernetes.io/name": "carp-sidecar", "app.kubernetes.io/instance": "carp-sidecar"}
    for name, role in (("a", "backup"), ("b", "backup")):
        control_plane.admin.create_pod(namespace, name, node=name, labels={**ours, "carp-role": role})
    control_plane.admin.create_pod(namespace, "stranger", node="c", labels={"carp-role": "master"})

    def with_roles(a: str, b: str) -> tuple[int, str]:
        for name, role in (("a", a), ("b", b)):
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            control_plane.admin.request("PATCH", path, {"metadata": {"labels": {"carp-role": role}}})
        done = one_master()
        return done.returncode, done.stdout.strip() or done.stderr

    assert with_roles("backup", "backup") == (1, "carp-role: 0 masters [], not one")
    assert with_roles("master", "backup") == (0, "carp-role: master is a")
    assert with_roles("master", "master") == (1, "carp-role: 2 masters ['a', 'b'], not one")
