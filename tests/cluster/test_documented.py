"""What the pages on installing and upgrading have people type, executed from the pages themselves.

helm, kubectl and the API server are real; controllers, kubelets and sidecars are played (tests.fakes.daemonset), and
what a Job runs is run (tests.fakes.jobs). Only what needs a registry or a container to run in is not carried out,
docker and `kubectl exec`: the image has tests of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sidecar.demo.controlplane import ControlPlane
from tests.fakes.daemonset import NODES, Daemons
from tests.fakes.helm import Helm
from tests.fakes.jobs import Jobs
from tests.netns.peers import until

pytestmark = [pytest.mark.cluster, pytest.mark.packaging]

ROOT = Path(__file__).parents[2]
INSTALL = (ROOT / "docs/install.md").read_text()
UPGRADE = (ROOT / "docs/upgrade.md").read_text()

DOCKER = """#!/bin/sh
echo "docker $*" >>"$PLAYED"
"""
KUBECTL = """#!/bin/sh
case "$*" in *" exec "*) echo "kubectl $*" >>"$PLAYED" ;; *) exec "$REAL/kubectl" "$@" ;; esac
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
def reader(helm: Helm, control_plane: ControlPlane, tmp_path: Path) -> Reader:
    return Reader(helm, control_plane, tmp_path)


def with_tag(values: str, tag: str) -> str:
    """The values, with another image."""
    return values.replace("image:\n", f"image:\n  tag: {tag}\n", 1)


def test_a_newcomers_path_and_the_first_upgrades(reader: Reader, control_plane: ControlPlane, tmp_path: Path) -> None:
    start = section(INSTALL, "Quick start")
    (values,) = blocks(start, "yaml")
    reader.write("values.yaml", values)
    with Daemons(control_plane.admin, "carp") as daemons, Jobs(control_plane.admin, "carp", tmp_path / "jobs"):
        *steps, look_again = blocks(start, "sh")
        told = [reader.types(block) for block in steps]
        until(lambda: reader.types(look_again).count("carp-sidecar-node-") == 1, "the label has followed")

        assert [line.split()[1] for line in reader.played] == ["build", "push", "--namespace"]
        assert (ROOT / "Dockerfile").exists()
        assert re.findall(r"^carp-sidecar-(node-\w)-", told[-2], re.M) == ["node-a"], "one master"
        assert len(daemons.masters) == 2, "it has moved"
        (reader_of_status,) = reader.played[2:]
        assert reader_of_status.endswith("exec daemonset/carp-sidecar -- carp-sidecar status")

        pods = daemons.pods
        reader.write("values.yaml", f"{values}  dead_ratio: 4\n")
        (plain,) = blocks(UPGRADE.split("\n## ", 1)[0], "sh")
        assert "successfully rolled out" in reader.types(plain)
        config = control_plane.admin.request("GET", "/api/v1/namespaces/carp/configmaps/carp-sidecar")
        assert "dead_ratio: 4" in config["data"]["config.yaml"]
        (look,) = blocks(section(UPGRADE, "What needs no new pods"), "sh")
        reader.types(look)
        asked = [line.split()[4] for line in reader.played[-len(NODES) :]]
        assert set(asked) == {f"pod/{name}" for name in pods}, "the same pods: nothing was restarted"

        reader.write("values.yaml", with_tag(values, "two"))
        assert "successfully rolled out" in reader.types(plain)
        assert not set(daemons.pods) & set(pods), "another image: all were"
        (back,) = blocks(section(UPGRADE, "Back"), "sh")
        assert "successfully rolled out" in reader.types(back)
        config = control_plane.admin.request("GET", "/api/v1/namespaces/carp/configmaps/carp-sidecar")
        assert "dead_ratio: 4" in config["data"]["config.yaml"]

        ordered, by_hand = blocks(section(UPGRADE, "What the VIPs do in a rollout"), "sh")
        for tag in ("three", "four"):
            moves, pods = len(daemons.masters), daemons.pods
            reader.write("values.yaml", with_tag(values, tag))
            assert "condition met" in reader.types(ordered)
            assert not set(daemons.pods) & set(pods)
            assert len(daemons.masters) == moves + 1, "the VIP moved once"

        moves = len(daemons.masters)
        reader.write("values.yaml", with_tag(values, "five"))
        assert reader.types(by_hand).count("deleted") == len(NODES)
        assert len(daemons.masters) == moves + 1, "the VIP moved once"

        (away,) = blocks(section(UPGRADE, "Away"), "sh")
        assert "uninstalled" in reader.types(away)
    secret = control_plane.admin.request("GET", "/api/v1/namespaces/carp/secrets/carp-sidecar-password")
    assert secret["data"]["password"]


def test_the_way_without_helm(reader: Reader, control_plane: ControlPlane, namespace: str) -> None:
    (block,) = blocks(section(INSTALL, "Without Helm"), "sh")
    reader.write("secret.txt", "correct horse")
    told = reader.types(block.replace("--namespace carp ", f"--namespace {namespace} "))
    assert "daemonset.apps/carp-sidecar created" in told
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/carp-sidecar"
    spec = control_plane.admin.request("GET", path)["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"carp-sidecar": "true"}
