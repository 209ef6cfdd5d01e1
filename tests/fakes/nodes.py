"""Three nodes for a real control plane: scheduler, kubelets and sidecars that elect, played by one thread.

The controllers are real: they make the pods. Here pods are bound, started and ended; those of a Job run their command
in truth, with the rights of their account. A group's role is in a label; who is master stays it until its pod is gone,
and then the oldest that is ready takes over, which is to be replaced yet, but those that stand aside last.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sidecar.agent.aside import ANSWERED, ASKED
from sidecar.demo.admin import Admin, ApiError
from sidecar.observe.moment import rfc3339

NODES = ("node-a", "node-b", "node-c")
_EVERY = 0.1

Pod = dict[str, Any]


class Nodes:
    """Use as a context manager. ``masters`` are the nodes that were master of each label, one after the other.

    Pods on the nodes in ``broken`` are started and never ready, on those in ``deaf`` they stand aside for nobody.
    ``logs`` are what the commands of Jobs' pods printed. The labels ``elsewhere`` are on other pods than the sidecar's,
    one on each node.
    """

    def __init__(
        self,
        admin: Admin,
        namespace: str,
        *,
        labels: tuple[str, ...] = ("carp-role",),
        elsewhere: frozenset[str] = frozenset(),
    ) -> None:
        self.masters: dict[str, list[str]] = {label: [] for label in labels}
        self.broken: set[str] = set()
        self.deaf: set[str] = set()
        self.logs: list[str] = []
        self._elsewhere = elsewhere
        self._admin = admin
        self._namespace = namespace
        self._running: dict[str, Future[subprocess.CompletedProcess[str]]] = {}
        self._electing = threading.Lock()
        self._over = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="carp-nodes-")))
        self._pool = self._stack.enter_context(ThreadPoolExecutor(max_workers=4))
        for node in NODES:
            with contextlib.suppress(ApiError):  # from an earlier test
                self._admin.create_node(node)
            self._admin.request("PATCH", f"/api/v1/nodes/{node}", {"spec": {"taints": None}})
            if self._elsewhere:
                self._admin.create_pod(self._namespace, _app(node), node=node)
        thread = self._pool.submit(self._work)
        self._stack.callback(thread.result)
        self._stack.callback(self._over.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def give(self, label: str, node: str) -> None:
        """Have a node be master, while no rollout goes on."""
        with self._electing:
            for pod in self.pods():
                self._label(pod, label, "master" if pod["spec"]["nodeName"] == node else "backup")
            self.masters[label] = [node]

    def pods(self) -> list[Pod]:
        """Return the DaemonSet's pods."""
        return [pod for pod in self._admin.list_pods(self._namespace) if _is_of(pod, "DaemonSet")]

    def _work(self) -> None:
        while not self._over.wait(_EVERY):
            for pod in self._admin.list_pods(self._namespace):
                try:
                    self._turn(pod)
                except ApiError as error:
                    if error.status not in (404, 409):  # changed by somebody meanwhile
                        raise
            with self._electing:
                self._elect()

    def _turn(self, pod: Pod) -> None:
        metadata, node, path = pod["metadata"], pod["spec"].get("nodeName"), self._path(pod)
        said = metadata.get("annotations", {})
        if not metadata.get("ownerReferences"):
            return  # runs, and bears what its node's sidecar says
        if "deletionTimestamp" in metadata:
            for label in self._elsewhere:
                self._label(pod, label, "backup")
            self._admin.request("DELETE", path, {"gracePeriodSeconds": 0})
        elif not node:
            target = {"apiVersion": "v1", "kind": "Node", "name": _wanted(pod)}
            binding = {"metadata": {"name": metadata["name"]}, "target": target}
            self._admin.request("POST", f"{path}/binding", binding)
        elif _is_of(pod, "Job"):
            self._run(pod)
        elif not _is_ready(pod) and node not in self.broken:
            for label in self.masters:
                self._label(pod, label, "backup")
            # The controller counts minReadySeconds from there on, in whole seconds.
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(time.time())}
            self._admin.request("PATCH", f"{path}/status", {"status": {"phase": "Running", "conditions": [ready]}})
        elif node not in self.deaf and said.get(ASKED) != said.get(ANSWERED):
            self._admin.request("PATCH", path, {"metadata": {"annotations": {ANSWERED: said[ASKED]}}})

    def _elect(self) -> None:
        pods = [pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
        for label, masters in self.masters.items():
            known = [pod for pod in pods if label in self._elsewhere or label in pod["metadata"]["labels"]]
            ready = list(filter(_is_ready, known))
            everybody = self._admin.list_pods(self._namespace)
            if ready and not any(pod["metadata"].get("labels", {}).get(label) == "master" for pod in everybody):
                chosen = min(ready, key=lambda pod: (_is_aside(pod, label), pod["metadata"]["creationTimestamp"]))
                with contextlib.suppress(ApiError):  # gone meanwhile
                    self._label(chosen, label, "master")
                    masters.append(chosen["spec"]["nodeName"])

    def _run(self, pod: Pod) -> None:
        """Start a Job's pod, and tell of its end."""
        uid, path = pod["metadata"]["uid"], f"{self._path(pod)}/status"
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        if uid not in self._running:
            self._admin.request("PATCH", path, {"status": {"phase": "Running"}})
            self._running[uid] = self._pool.submit(self._execute, pod)
        elif self._running[uid].done():
            done = self._running[uid].result()
            self.logs.append(done.stdout + done.stderr)
            (container,) = pod["spec"]["containers"]
            told = {
                "name": container["name"],
                "image": container["image"],
                "imageID": "any",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": {"exitCode": done.returncode}},
            }
            phase = "Failed" if done.returncode else "Succeeded"
            self._admin.request("PATCH", path, {"status": {"phase": phase, "containerStatuses": [told]}})

    def _execute(self, pod: Pod) -> subprocess.CompletedProcess[str]:
        """Run the command line of a Job's pod with the token of its account, and nothing of ours in its environment."""
        account = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{pod['spec']['serviceAccountName']}"
        token = self._admin.request("POST", f"{account}/token", {"spec": {}})["status"]["token"]
        kubeconfig = self._admin.write_kubeconfig(self._folder / pod["metadata"]["name"], token)
        (container,) = pod["spec"]["containers"]
        command = [sys.executable, "-m", "sidecar", *container["args"]]
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "KUBECONFIG": str(kubeconfig)}
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)

    def _label(self, pod: Pod, label: str, role: str) -> None:
        bearer = _app(pod["spec"]["nodeName"]) if label in self._elsewhere else pod["metadata"]["name"]
        self._admin.request("PATCH", self._path_of(bearer), {"metadata": {"labels": {label: role}}})

    def _path(self, pod: Pod) -> str:
        return self._path_of(pod["metadata"]["name"])

    def _path_of(self, name: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods/{name}"


def _app(node: str) -> str:
    return f"app-on-{node}"


def _is_of(pod: Mapping[str, Any], kind: str) -> bool:
    return any(owner["kind"] == kind for owner in pod["metadata"].get("ownerReferences", ()))


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _is_aside(pod: Mapping[str, Any], label: str) -> bool:
    return label in pod["metadata"].get("annotations", {}).get(ANSWERED, "").partition(": ")[2].split(",")


def _wanted(pod: Mapping[str, Any]) -> str:
    """Return the node that a pod of a DaemonSet is for (metadata.name in its affinity), else any."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            return str(field["values"][0])
    return NODES[0]
