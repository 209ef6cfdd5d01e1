"""Real helm and kubectl, with a home of their own: nothing of the user's is read or written."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts/carp-sidecar"
EXAMPLES = CHART / "examples"
MANIFESTS = CHART.parents[1] / "manifests"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """Runs the programs in ``folder``; with a ``kubeconfig``, against its server."""

    folder: Path
    home: Path
    kubeconfig: Path | None = None

    def with_server(self, kubeconfig: Path) -> Helm:
        return dataclasses.replace(self, kubeconfig=kubeconfig)

    def run(self, program: str, *arguments: str | Path, fails: bool = False, text: str = "") -> str:
        """Return what a program prints, on success or, where it has to fail, as its complaint."""
        # Nobody listens at the address that stands for "no server": a look-up by mistake fails at once.
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "KUBECONFIG": str(self.kubeconfig or "")}
        command = [str(self.folder / program), *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, input=text)
        assert (done.returncode != 0) is fails, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stderr + done.stdout if fails else done.stdout

    def template(self, *options: str | Path, release: str = "carp-sidecar") -> list[Object]:
        """Return the objects that the chart becomes, without a cluster."""
        return objects(self.run("helm", "template", release, CHART, "--namespace", "carp", *options))

    def kustomize(self, folder: Path) -> list[Object]:
        """Return the objects that a kustomization becomes."""
        return objects(self.run("kubectl", "kustomize", folder))


def objects(text: str) -> list[Object]:
    return [document for document in yaml.safe_load_all(text) if document]


def only(found: Sequence[Object], kind: str, name: str = "") -> Object:
    """Return the one object of that kind, and of that name where one is given."""
    (one,) = (each for each in found if each["kind"] == kind and name in ("", each["metadata"]["name"]))
    return one


def settings(found: Sequence[Object]) -> Object:
    """Return the settings file in the ConfigMap."""
    parsed: Object = yaml.safe_load(only(found, "ConfigMap")["data"]["config.yaml"])
    return parsed
