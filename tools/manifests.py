"""Make what is the chart's in manifests/, by helm: ``python -m tools.manifests``.

The text is what `helm template` prints, comments and all, less what only Helm needs.
"""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

from tools.helm import fetch

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/carp-sidecar"
MANIFESTS = ROOT / "manifests"

_HELMS = re.compile(
    r"^ *(helm\.sh/chart|app\.kubernetes\.io/(version|managed-by)|namespace): .*\n|^# Source: .*\n"
    # The probe names the DaemonSet, which a kustomization may put into another namespace and give a prefix.
    r"|^ *# Another sidecar may have the port.*\n|(?<=path: /readyz)\?.*",
    re.M,
)


def rendered(helm: Path, *options: str) -> str:
    """Return what helm prints for the example ``base``. Raises CalledProcessError.

    Not Ordered: its Job has another name with each change, which no kustomization can give.
    """
    command = [str(helm / "helm"), "template", "carp-sidecar", str(CHART), "-f", str(CHART / "examples/base.yaml")]
    command += ["--set", "updateStrategy.type=RollingUpdate"]
    return subprocess.run([*command, "--skip-tests", *options], check=True, capture_output=True, text=True).stdout


def files(helm: Path) -> dict[Path, str]:
    """Return the text of every file that is made, by its path."""
    documents: dict[str, list[str]] = {}
    for document in rendered(helm).split("---\n"):
        source = re.search(r"^# Source: carp-sidecar/templates/(.*)$", document, re.M)
        if source:
            documents.setdefault(source[1], []).append(_HELMS.sub("", document).strip("\n") + "\n")
    daemonset = "".join(documents["daemonset.yaml"])
    return {
        MANIFESTS / "rbac/rbac.yaml": "---\n".join(documents["rbac.yaml"]),
        MANIFESTS / "base/daemonset.yaml": daemonset,
        MANIFESTS / "base/service.yaml": "---\n".join(documents["service.yaml"]),
        MANIFESTS / "components/sidecar/patch.yaml": _patch(daemonset),
        MANIFESTS / "overlays/control-plane/carp-sidecar.yaml": _static_pod(daemonset),
    }


def _part(text: str, begin: str, end: str = "") -> str:
    """Return the lines after the one that is ``begin`` and before the one that is ``end``, at the left margin."""
    after = text.split(f"\n{begin}\n", 1)[1]
    return textwrap.dedent(after.split(f"\n{end}\n", 1)[0] if end else after).rstrip("\n") + "\n"


def _indented(text: str, columns: int) -> str:
    return textwrap.indent(text, " " * columns)


_PATCH = """\
# The sidecar's container for a pod of yours, and what it needs beside it.
apiVersion: apps/v1
kind: any
metadata: {name: any}
spec:
  template:
    spec:
      hostNetwork: true
      # With the node's network this keeps the cluster's names for your own containers.
      dnsPolicy: ClusterFirstWithHostNet
      # A Service named carp-... would put CARP_... variables into the environment.
      enableServiceLinks: false
      serviceAccountName: carp-sidecar
      automountServiceAccountToken: true
      containers:
"""


_PORTS = """\
  # Of two such pods on a node the second would take the VIP from the first. The node's network has one port of a
  # number, so the scheduler puts none beside another: it is the listener's (http_listen).
  ports:
    - {containerPort: 9112, hostPort: 9112}
"""


def _patch(daemonset: str) -> str:
    containers = _part(daemonset, "      containers:", "      volumes:")
    containers = containers.replace("  securityContext:\n", f"{_PORTS}  securityContext:\n", 1)
    volumes = _part(daemonset, "      volumes:")
    return f"{_PATCH}{_indented(containers, 8)}      volumes:\n{_indented(volumes, 8)}"


_STATIC_POD = """\
# The address of the API servers, held by the nodes that run them, from before there is a cluster: put this file into
# /etc/kubernetes/manifests of each control-plane node. A static pod may use no ConfigMap, Secret or account, so the
# settings and the password (mode 0400) are files of the node, in /etc/carp-sidecar, and no label tells who is master.
# Its listener has a port of its own: a DaemonSet on the same nodes has 9112.
apiVersion: v1
kind: Pod
metadata:
  name: carp-sidecar
  namespace: kube-system
  labels:
    app.kubernetes.io/name: carp-sidecar
    app.kubernetes.io/instance: control-plane
spec:
  hostNetwork: true
  dnsPolicy: Default
  enableServiceLinks: false
  automountServiceAccountToken: false
  priorityClassName: system-node-critical
  terminationGracePeriodSeconds: 30
  securityContext:
    seccompProfile:
      type: RuntimeDefault
  containers:
"""
_STATIC_ENVIRONMENT = """\
    - {name: CARP_KUBERNETES, value: "off"}
    - {name: CARP_HTTP_LISTEN, value: "127.0.0.1:9113"}
"""
_STATIC_VOLUMES = """\
  volumes:
    - name: config
      hostPath: {path: /etc/carp-sidecar, type: Directory}
    - name: runtime
      emptyDir: {medium: Memory, sizeLimit: 16Mi}
"""


def _static_pod(daemonset: str) -> str:
    containers = _part(daemonset, "      containers:", "      volumes:")
    containers = containers.replace("  env:\n", f"  env:\n{_STATIC_ENVIRONMENT}", 1)
    containers = containers.replace("port: 9112\n", "port: 9113\n", 1)
    containers = containers.replace("    - {name: password, mountPath: /run/secrets/carp, readOnly: true}\n", "")
    return f"{_STATIC_POD}{_indented(containers, 4)}{_STATIC_VOLUMES}"


if __name__ == "__main__":
    for path, text in files(fetch()).items():
        path.write_text(text)
