"""What the pages on installing and upgrading have people type, executed from the pages themselves.

helm, kubectl, the API server, its controllers and our own command are real; kubelets and sidecars are played
(tests.fakes.nodes). Only what needs a registry or a container to run in is not carried out, docker, `kubectl exec` and
`kubectl logs`: the image has tests of its own.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.demo.controlplane import ControlPlane
from tests.fakes.helm import Helm
from tests.fakes.nodes import NODES, Nodes
from tests.netns.peers import until

pytestmark = [pytest.mark.cluster, pytest.mark.packaging]

ROOT = Path(__file__).parents[2]
INSTALL = (ROOT / "docs/install.md").read_text()
UPGRADE = (ROOT / "docs/upgrade.md").read_text()

DOCKER = """#!/bin/sh
echo "docker $*" >>"$PLAYED"
"""
KUBECTL = """#!/bin/sh
case "$*" in *" exec "*|*" logs "*) echo "kubectl $*" >>"$PLAYED" ;; *) exec "$REAL/kubectl" "$@" ;; esac
"""


def section(page: str, title: str) -> str:
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    return str(text)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


class Reader:
    """Somebody with a checkout who types what a page says."""

    def __init__(self, helm: Helm, control_plane: ControlPlane, folder: Path) -> None:
        self._folder = folder
        self._played = folder / "played"
        self._played.touch()
        for name in ("charts", "manifests", "Dockerfile"):
            (folder / name).symlink_to(ROOT / name)
        tools = folder / "bin"
        tools.mkdir()
        (tools / "helm").symlink_to(helm.folder / "helm")
        for name, text in (("docker", DOCKER), ("kubectl", KUBECTL)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (tools / "carp-sidecar").symlink_to(Path(sys.executable).with_name("carp-sidecar"))
        admin = control_plane.admin
        self._environment = {
            "HOME": str(helm.home),
            "PATH": f"{tools}:{os.defpath}",
            "KUBECONFIG": str(admin.write_kubeconfig(folder / "kubeconfig", admin.access.token)),
            "PLAYED": str(self._played),
            "REAL": str(helm.folder),
        }

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def types(self, text: str) -> str:
        """Run it in a shell that stops at the first failure; return what it prints."""
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self._environment, cwd=self._folder, timeout=300
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def played(self) -> list[str]:
        return self._played.read_text().splitlines()


@pytest.fixture
def reader(helm: Helm, managed_plane: ControlPlane, tmp_path: Path) -> Reader:
    return Reader(helm, managed_plane, tmp_path)


def masters(listed: str) -> list[str]:
    """The nodes that `kubectl get pods --output wide` names."""
    return re.findall(r"\b(node-\w)\b", listed)


def test_a_newcomers_path_and_the_first_upgrade(  # noqa: PLR0915 - one story
    reader: Reader, managed_plane: ControlPlane
) -> None:
    start = section(INSTALL, "Quick start")
    (values,) = blocks(start, "yaml")
    values += "minReadySeconds: 0\n"  # less to wait for
    reader.write("values.yaml", values)
    with Nodes(managed_plane.admin, "carp") as nodes:
        *steps, look_again = blocks(start, "sh")
        told = [reader.types(block) for block in steps]
        until(lambda: len(nodes.masters["carp-role"]) == 2, "it has moved")
        until(lambda: masters(reader.types(look_again)) == nodes.masters["carp-role"][1:], "the label has followed")
        assert masters(told[-2]) == nodes.masters["carp-role"][:1], "one master"

        assert [line.split()[1] for line in reader.played] == ["build", "push", "--namespace"]
        assert (ROOT / "Dockerfile").exists()
        (reader_of_status,) = reader.played[2:]
        assert reader_of_status.endswith("exec daemonset/carp-sidecar -- carp-sidecar status")

        (upgrade,) = blocks(UPGRADE.split("\n## ", 1)[0], "sh")
        until(lambda: len(nodes.pods()) == len(NODES), "the pod that was ended has a successor")
        before = {pod["metadata"]["name"] for pod in nodes.pods()}
        values = values.replace("config:\n", "config:\n  dead_ratio: 4\n", 1)
        reader.write("values.yaml", values)
        reader.types(upgrade)
        config = managed_plane.admin.request("GET", "/api/v1/namespaces/carp/configmaps/carp-sidecar")
        assert "dead_ratio: 4" in config["data"]["config.yaml"]
        (look,) = blocks(section(UPGRADE, "What needs no new pods"), "sh")
        reader.types(look)
        asked = {line.split()[4] for line in reader.played[-len(NODES) :]}
        assert asked == {f"pod/{name}" for name in before}, "the same pods: nothing was restarted"

        reader.write("values.yaml", f"{values}podLabels: {{version: two}}\n")
        moves = len(nodes.masters["carp-role"])
        reader.types(upgrade)
        assert {pod["metadata"]["labels"].get("version") for pod in nodes.pods()} == {"two"}
        assert len(nodes.masters["carp-role"]) == moves + 1, "the VIP moved once"
        (look,) = blocks(section(UPGRADE, "What the VIPs do in a rollout"), "sh")
        reader.types(look)
        assert "carp-role moved once" in nodes.logs[-1]

        (back,) = blocks(section(UPGRADE, "Back"), "sh")
        reader.types(back)
        assert {pod["metadata"]["labels"].get("version") for pod in nodes.pods()} == {None}
        assert len(nodes.masters["carp-role"]) == moves + 2, "and once on the way back"

        own = "updateStrategy: {type: OnDelete}\npodLabels: {version: three}\n"
        reader.write("values.yaml", f"{values}{own}")
        reader.types(upgrade.replace(" --wait ", " "))
        (by_hand,) = blocks(section(UPGRADE, "By hand"), "sh")
        told = reader.types(by_hand).splitlines()
        assert [line for line in told if "would" in line][-1] == "would be done: 3 replaced"
        assert told[-1].startswith("done: 3 replaced; carp-role moved once")
        assert {pod["metadata"]["labels"].get("version") for pod in nodes.pods()} == {"three"}

        (away,) = blocks(section(UPGRADE, "Away"), "sh")
        assert "uninstalled" in reader.types(away)
        until(lambda: not nodes.pods(), "the pods have gone")
    secret = managed_plane.admin.request("GET", "/api/v1/namespaces/carp/secrets/carp-sidecar-password")
    assert secret["data"]["password"]


def test_the_way_without_helm(reader: Reader, managed_plane: ControlPlane) -> None:
    way = section(INSTALL, "Without Helm")
    (own,), (block,) = blocks(way, "yaml"), blocks(way, "sh")
    namespace = f"test-{secrets.token_hex(4)}"
    managed_plane.admin.create_namespace(namespace)
    reader.write("kustomization.yaml", own)
    with Nodes(managed_plane.admin, namespace) as nodes:
        reader.types(block.replace("--namespace carp ", f"--namespace {namespace} "))
        until(lambda: len(nodes.masters["carp-role"]) == 1, "there is a master")
        until(lambda: len(nodes.pods()) == 2, "each node that was labelled has a pod")
        pods = nodes.pods()
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-a", "node-b"}
    assert {one["image"] for pod in pods for one in pod["spec"]["containers"]} == {
        "registry.example/carp-sidecar:0.1.0"
    }
    secret = managed_plane.admin.request("GET", f"/api/v1/namespaces/{namespace}/secrets/carp-sidecar-password")
    assert re.fullmatch(rb"[A-Za-z0-9]{19}", base64.b64decode(secret["data"]["password"]))


def test_the_sidecar_in_a_pod_of_yours_without_kustomize(reader: Reader, managed_plane: ControlPlane) -> None:
    (block,) = blocks(section(INSTALL, "In a pod of yours"), "sh")
    namespace = f"test-{secrets.token_hex(4)}"
    managed_plane.admin.create_namespace(namespace)
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    proxy = {"name": "proxy", "image": "proxy"}
    template = {"metadata": {"labels": {"app": "proxy"}}, "spec": {"containers": [proxy]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "proxy"}}, "template": template}
    managed_plane.admin.request("POST", deployments, {"metadata": {"name": "proxy"}, "spec": spec})
    assert "patched" in reader.types(block.replace("--namespace carp ", f"--namespace {namespace} "))
    made = managed_plane.admin.request("GET", f"{deployments}/proxy")["spec"]["template"]["spec"]
    ours, theirs = made["containers"]
    assert (ours["name"], theirs["name"], theirs["image"]) == ("carp-sidecar", "proxy", "proxy")
    assert ours["ports"] == [{"containerPort": 9112, "hostPort": 9112, "protocol": "TCP"}], "for the scheduler"
    assert made["hostNetwork"] is True
    assert {volume["name"] for volume in made["volumes"]} == {"config", "password", "runtime"}
