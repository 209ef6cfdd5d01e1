"""The parts of a cluster that a bare API server lacks: a DaemonSet's controller, kubelets, and sidecars that elect.

It keeps one pod of the DaemonSet on each node, says of each what a kubelet says of one that runs, ends those that are
deleted, keeps a ControllerRevision of each template, and labels the roles as sidecars without preemption would: who is
master stays it until its pod is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from types import TracebackType
from typing import Any, Self

from sidecar.demo.admin import Admin, ApiError

NODES = ("node-a", "node-b", "node-c")
_EVERY = 0.1


class Daemons:
    """Use as a context manager. ``masters`` are the nodes that were master, one after the other."""

    def __init__(self, admin: Admin, namespace: str, name: str = "carp-sidecar") -> None:
        self.masters: list[str] = []
        self._admin = admin
        self._namespace = namespace
        self._name = name
        self._revisions: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="daemons", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def pods(self) -> list[str]:
        """The names of the pods that are there."""
        path = f"/apis/apps/v1/namespaces/{self._namespace}/daemonsets/{self._name}"
        return [pod["metadata"]["name"] for pod in self._pods(self._admin.request("GET", path))]

    def _work(self) -> None:
        while not self._over.wait(_EVERY):
            try:
                self._turn()
            except ApiError as error:
                if error.status not in (404, 409):  # not installed, or changed by somebody meanwhile
                    raise

    def _turn(self) -> None:
        path = f"/apis/apps/v1/namespaces/{self._namespace}/daemonsets/{self._name}"
        daemonset = self._admin.request("GET", path)
        template, generation = daemonset["spec"]["template"], self._revision(daemonset)
        pods = {pod["spec"]["nodeName"]: pod for pod in self._pods(daemonset)}
        rolling = daemonset["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        old = [pod for pod in pods.values() if self._generation(pod) != generation]
        if rolling and old:
            self._end(old[0])
        for pod in [pod for pod in pods.values() if "deletionTimestamp" in pod["metadata"]]:
            self._end(pod)
            del pods[pod["spec"]["nodeName"]]
        self._elect(list(pods.values()))  # among those that are there: a successor is needed before a pod is back
        for node in NODES:
            if node not in pods and not (rolling and old):
                self._begin(template, node, generation)
        whole = self._pods(daemonset)
        self._elect(whole)  # where all are new
        done = [pod for pod in whole if self._generation(pod) == generation]
        status = {
            "currentNumberScheduled": len(whole),
            "desiredNumberScheduled": len(NODES),
            "numberMisscheduled": 0,
            "numberReady": len(whole),
            "numberAvailable": len(whole),
            "updatedNumberScheduled": len(done),
            "observedGeneration": daemonset["metadata"]["generation"],
        }
        if daemonset.get("status") != status:
            self._admin.request("PATCH", f"{path}/status", {"status": status})

    def _pods(self, daemonset: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = daemonset["spec"]["selector"]["matchLabels"]
        return self._admin.list_pods(self._namespace, ",".join(f"{key}={value}" for key, value in wanted.items()))

    def _revision(self, daemonset: dict[str, Any]) -> str:
        """The name of the template's revision, as its hash is; one that comes again is the newest again."""
        template = daemonset["spec"]["template"]
        name = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        if self._revisions[-1:] != [name]:
            path = f"/apis/apps/v1/namespaces/{self._namespace}/controllerrevisions"
            labels = {**daemonset["spec"]["selector"]["matchLabels"], "controller-revision-hash": name}
            owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": self._name}
            owner["uid"] = daemonset["metadata"]["uid"]
            metadata = {"name": f"{self._name}-{name}", "labels": labels, "ownerReferences": [owner]}
            with contextlib.suppress(ApiError):  # there is none yet
                self._admin.request("DELETE", f"{path}/{metadata['name']}")
            revision = {"metadata": metadata, "data": {"template": template}, "revision": len(self._revisions) + 1}
            self._admin.request("POST", path, revision)
            self._revisions.append(name)
        return name

    @staticmethod
    def _generation(pod: dict[str, Any]) -> str:
        return str(pod["metadata"]["labels"].get("controller-revision-hash"))

    def _begin(self, template: dict[str, Any], node: str, generation: str) -> None:
        name = f"{self._name}-{node}-{generation}"
        labels = {**template["metadata"]["labels"], "controller-revision-hash": generation, "carp-role": "backup"}
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        spec = {**template["spec"], "nodeName": node}
        self._admin.request("POST", path, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        ready = {"type": "Ready", "status": "True"}
        self._admin.request("PATCH", f"{path}/{name}/status", {"status": {"phase": "Running", "conditions": [ready]}})

    def _end(self, pod: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}"
        self._admin.request("DELETE", path, {"gracePeriodSeconds": 0})

    def _elect(self, pods: list[dict[str, Any]]) -> None:
        if pods and not any(pod["metadata"]["labels"].get("carp-role") == "master" for pod in pods):
            chosen = min(pods, key=lambda pod: str(pod["spec"]["nodeName"]))
            path = f"/api/v1/namespaces/{self._namespace}/pods/{chosen['metadata']['name']}"
            self._admin.request("PATCH", path, {"metadata": {"labels": {"carp-role": "master"}}})
            self.masters.append(chosen["spec"]["nodeName"])
