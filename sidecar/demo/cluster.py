"""The API server behind the demo, and the little that the demo asks of it.

``DEMO_KUBECONFIG`` names a cluster to use; else a control plane is started where its programs are at hand; else the
in-memory stand-in serves.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import yaml
from kubernetes import client, config

from sidecar.demo.admin import write_secret
from sidecar.demo.apiserver import ApiServer
from sidecar.demo.controlplane import HOW_TO_GET_ASSETS, Assets, ControlPlane, find_assets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DOOR_PORT = 6443
"""Where a node reaches the API server: 127.0.0.1, on this port."""

# What the chart's Role grants by default (files/role-rules.yaml).
RULES = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "patch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
)

_TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
_PATHS = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})


class ClusterError(RuntimeError):
    """The API server can't be used as the demo needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """An API server. ``kubeconfig`` is for the demo and for people, ``node_kubeconfig`` for the sidecars."""

    description: str
    kubeconfig: Path
    node_kubeconfig: Path
    namespace: str


class Cluster:
    """What the demo does with the API: it plays scheduler and kubelet for one pod per node, and looks at them.

    Raises kubernetes.client.ApiException and urllib3's errors.
    """

    def __init__(self, backend: Backend) -> None:
        self._namespace = backend.namespace
        api = config.new_client_from_config(config_file=str(backend.kubeconfig), persist_config=False)
        api.configuration.proxy = None  # the nodes' way leads past any proxy, and so does ours
        self._core = client.CoreV1Api(api)

    @property
    def endpoint(self) -> tuple[str, int]:
        """The server's host and TCP port, as seen from here."""
        url = urlsplit(str(self._core.api_client.configuration.host))
        return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)

    def create_namespace(self) -> None:
        """Make the namespace."""
        self._core.create_namespace({"metadata": {"name": self._namespace}})

    def delete_namespace(self) -> None:
        """Remove the namespace with all that is in it; the server does so in its own time."""
        self._core.delete_namespace(self._namespace)

    def create_pod(self, name: str) -> None:
        """Make a pod that no scheduler feels called to place, and say of it what a kubelet says of one that runs."""
        container = {"name": "carp-sidecar", "image": "carp-sidecar"}
        pod = {
            "metadata": {"name": name, "labels": {"app": "carp-sidecar"}},
            "spec": {
                "schedulerName": "carp-sidecar-demo",
                "automountServiceAccountToken": False,
                "containers": [container],
            },
        }
        state = {"running": {"startedAt": datetime.now(UTC).isoformat()}}
        running = {**container, "imageID": "", "ready": True, "restartCount": 0, "state": state}
        self._core.create_namespaced_pod(self._namespace, pod)
        self._core.patch_namespaced_pod_status(
            name, self._namespace, {"status": {"phase": "Running", "containerStatuses": [running]}}
        )

    def masters(self) -> tuple[str, ...]:
        """Return the names of the pods labelled carp-role=master, in order."""
        return tuple(sorted(row["cells"][0] for row in self._table()["rows"]))

    def masters_table(self) -> str:
        """Return what ``kubectl get pods -l carp-role=master -L carp-role`` prints, without a final newline."""
        table = self._table()
        if not table["rows"]:
            return f"No resources found in {self._namespace} namespace."
        shown = [index for index, column in enumerate(table["columnDefinitions"]) if column["priority"] == 0]
        lines = [[*(table["columnDefinitions"][index]["name"].upper() for index in shown), "CARP-ROLE"]]
        for row in table["rows"]:
            role = row["object"]["metadata"]["labels"]["carp-role"]
            lines.append([*(str(row["cells"][index]) for index in shown), role])
        return columns(lines)

    def _table(self) -> dict[str, Any]:
        answer = self._core.list_namespaced_pod(
            self._namespace,
            label_selector="carp-role=master",
            _preload_content=False,
            _headers=_TABLE,
            _request_timeout=10.0,
        )
        table: dict[str, Any] = json.loads(answer.data)
        return table


def columns(lines: list[list[str]]) -> str:
    """Return cells as kubectl aligns them: to the left, three spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


@contextlib.contextmanager
def open_backend(directory: Path, environ: Mapping[str, str], *, say: Callable[[str], None]) -> Iterator[Backend]:
    """Have an API server while inside; its files go to ``directory``. ``say`` tells of what takes long.

    Raises ClusterError, ControlPlaneError, OSError, and what ``Cluster`` raises.
    """
    if given := environ.get("DEMO_KUBECONFIG"):
        with _given(Path(given), directory) as backend:
            yield backend
    elif assets := find_assets(environ):
        say(f"starting {assets.apiserver} and etcd: 5 s on an idle machine, up to a minute on a busy one ...")
        with _control_plane(assets, directory) as backend:
            yield backend
    else:
        with ApiServer() as api:
            path = api.write_kubeconfig(directory / "kubeconfig", namespace="default")
            yield Backend(
                description=f"an in-memory stand-in, not a real API server. For that:\n{HOW_TO_GET_ASSETS}.",
                kubeconfig=path,
                node_kubeconfig=path,
                namespace="default",
            )


@contextlib.contextmanager
def _given(kubeconfig: Path, directory: Path) -> Iterator[Backend]:
    namespace = f"carp-demo-{secrets.token_hex(3)}"
    document = load_kubeconfig(kubeconfig)
    path = directory / "kubeconfig"
    current(document, "context")["namespace"] = namespace
    write_secret(path, json.dumps(document).encode())
    backend = Backend(
        description=f"the API server of DEMO_KUBECONFIG, {current(document, 'cluster')['server']}.",
        kubeconfig=path,
        node_kubeconfig=path,
        namespace=namespace,
    )
    cluster = Cluster(backend)
    cluster.create_namespace()
    try:
        yield backend
    finally:
        cluster.delete_namespace()


@contextlib.contextmanager
def _control_plane(assets: Assets, directory: Path) -> Iterator[Backend]:
    with ControlPlane(assets) as plane:
        token = plane.admin.create_account("default", "carp-sidecar", rules=RULES)
        yield Backend(
            description=f"a real Kubernetes API server, {plane.admin.access.server} (RBAC on, the Role of the chart).",
            kubeconfig=plane.admin.write_kubeconfig(directory / "kubeconfig", plane.admin.access.token),
            node_kubeconfig=plane.admin.write_kubeconfig(directory / "sidecar.kubeconfig", token),
            namespace="default",
        )


def load_kubeconfig(path: Path) -> dict[str, Any]:
    """Return a kubeconfig with the files that it names made absolute. Raises ClusterError where it is none."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ClusterError(f"can't read the kubeconfig {path}: {error}") from error
    try:
        entries = [*(item["cluster"] for item in document["clusters"]), *(item["user"] for item in document["users"])]
        current(document, "cluster")["server"]
    except (KeyError, TypeError, StopIteration) as error:
        raise ClusterError(f"{path} is no kubeconfig with a current context and its cluster") from error
    for entry in entries:
        for key in _PATHS & entry.keys():
            entry[key] = str((path.parent / entry[key]).absolute())
    return document  # type: ignore[no-any-return]


def current(document: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the current ``context`` or its ``cluster``, to read or change. Raises KeyError, StopIteration."""
    name = document["current-context"]
    context: dict[str, Any] = next(item["context"] for item in document["contexts"] if item["name"] == name)
    if what == "context":
        return context
    cluster: dict[str, Any] = next(i["cluster"] for i in document["clusters"] if i["name"] == context["cluster"])
    return cluster


def write_node_kubeconfig(source: Path, path: Path) -> None:
    """Write ``source`` for use behind a node's door to the API server, which keeps its name for TLS."""
    document = load_kubeconfig(source)
    cluster = current(document, "cluster")
    url = urlsplit(cluster["server"])
    if url.scheme == "https":
        cluster.setdefault("tls-server-name", url.hostname)
    cluster["server"] = urlunsplit(url._replace(netloc=f"127.0.0.1:{DOOR_PORT}"))
    write_secret(path, json.dumps(document).encode())
