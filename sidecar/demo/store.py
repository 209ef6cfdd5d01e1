"""Pods in memory, with resource versions, optimistic locking and a log of changes to watch.

Any thread may call. What is handed out is shared and never changed in place: treat it as read-only.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sidecar.demo.patches import PatchError, apply

if TYPE_CHECKING:
    from sidecar.demo.selectors import Pod, Selector

_LOG_LENGTH = 1000
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(?=.{0,63}$)([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


class StatusError(Exception):
    """A request that fails; ``code`` is the HTTP status, ``reason`` Kubernetes' own word for it."""

    def __init__(self, code: int, reason: str, message: str, *, pod: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.pod = pod

    def document(self) -> dict[str, Any]:
        """Return it as a Status object."""
        details = {"details": {"name": self.pod, "kind": "pods"}} if self.pod else {}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            **details,
            "code": self.code,
        }


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names: a pod, all pods of a namespace (no ``name``), or all; ``status``: the subresource."""

    namespace: str | None
    name: str | None
    status: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one pod. ``before`` is None for a new pod, ``after`` for a deleted one."""

    version: int
    before: Pod | None
    after: Pod | None

    @property
    def namespace(self) -> str:
        """The pod's namespace."""
        return str((self.after or self.before or {})["metadata"]["namespace"])

    def event(self, wanted: Selector) -> dict[str, Any] | None:
        """Return the watch event for somebody who sees only the pods that are ``wanted``, or None."""
        was = self.before is not None and wanted(self.before)
        match self.after:
            case None if was:
                return {"type": "DELETED", "object": _at(self.before, self.version)}
            case dict() as pod if wanted(pod):
                return {"type": "MODIFIED" if was else "ADDED", "object": pod}
            case dict() if was:
                return {"type": "DELETED", "object": _at(self.before, self.version)}
            case _:
                return None


class PodStore:
    """The pods of all namespaces. Every method raises StatusError as an API server would answer."""

    def __init__(self) -> None:
        self._pods: dict[tuple[str, str], Pod] = {}
        self._version = 1
        self._log: deque[Change] = deque(maxlen=_LOG_LENGTH)
        self._changed = threading.Condition()
        self._closed = False

    def create(self, namespace: str, pod: Pod) -> Pod:
        """Add a pod; its status is the kubelet's to tell and starts as Pending."""
        metadata = dict(pod.get("metadata") or {})
        name = str(metadata.get("name", ""))
        if not _NAME.fullmatch(name):
            raise StatusError(422, "Invalid", f'Pod "{name}" is invalid: metadata.name: Invalid value', pod=name)
        metadata |= {
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        created = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": metadata,
            "spec": pod.get("spec") or {},
            "status": {"phase": "Pending"},
        }
        _validate(created)
        with self._changed:
            if (namespace, name) in self._pods:
                raise StatusError(409, "AlreadyExists", f'pods "{name}" already exists', pod=name)
            return self._commit(None, created)

    def get(self, target: Target) -> Pod:
        """Return one pod."""
        with self._changed:
            return self._get(target)

    def list(self, namespace: str | None, wanted: Selector) -> tuple[list[Pod], int]:
        """Return the pods of a namespace, or of all, by name, and the version that this is the state of."""
        with self._changed:
            pods = [pod for key, pod in sorted(self._pods.items()) if namespace in (None, key[0]) and wanted(pod)]
            return pods, self._version

    def patch(self, target: Target, *, kind: str, patch: object) -> Pod:
        """Patch a pod: everything but its status, or through the subresource everything but its spec.

        One that names a resourceVersion or uid other than the pod's is a Conflict.
        """
        with self._changed:
            pod = self._get(target)
            try:
                patched = apply(kind, pod, patch)
            except PatchError as error:
                message = f"the server rejected our request: {error}"
                raise StatusError(422, "Invalid", message, pod=target.name or "") from error
            changed = _checked(pod, patched)
            changed |= {"spec": pod["spec"]} if target.status else {"status": pod["status"]}
            return pod if changed == pod else self._commit(pod, changed)

    def delete(self, target: Target) -> Pod:
        """Remove a pod at once, and return what it was."""
        with self._changed:
            pod = self._get(target)
            self._commit(pod, None)
            return pod

    def wait(self, after: int, *, timeout: float) -> tuple[Change, ...]:
        """Return the changes later than version ``after`` once there are any, or () after ``timeout`` seconds."""
        with self._changed:
            if after < self._version - len(self._log):
                raise StatusError(410, "Expired", f"too old resource version: {after}")
            self._changed.wait_for(lambda: self._version > after or self._closed, timeout)
            return tuple(change for change in self._log if change.version > after)

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def _get(self, target: Target) -> Pod:
        pod = self._pods.get((target.namespace or "", target.name or ""))
        if pod is None:
            raise StatusError(404, "NotFound", f'pods "{target.name}" not found', pod=target.name or "")
        return pod

    def _commit(self, before: Pod | None, after: Pod | None) -> Pod:
        self._version += 1
        pod = _at(after or before, self._version)
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        if after is None:
            del self._pods[key]
        else:
            self._pods[key] = pod
        self._log.append(Change(self._version, before, pod if after else None))
        self._changed.notify_all()
        return pod


def _at(pod: Pod | None, version: int) -> Pod:
    pod = pod or {}
    return {**pod, "metadata": {**pod["metadata"], "resourceVersion": str(version)}}


def _checked(pod: Pod, patched: Any) -> Pod:  # noqa: ANN401 -- a JSON patch can make anything of a pod
    """Return the patched pod with the fields that only the server sets as they were."""
    if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
        raise StatusError(400, "BadRequest", "the patch leaves no pod")
    old, new = pod["metadata"], patched["metadata"]
    name = old["name"]
    if (new.get("name"), new.get("namespace")) != (name, old["namespace"]):
        raise StatusError(400, "BadRequest", "the name of the object does not match the name on the URL", pod=name)
    for field in ("resourceVersion", "uid"):
        if new.get(field) not in (None, "", old[field]):
            message = (
                f'Operation cannot be fulfilled on pods "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
            raise StatusError(409, "Conflict", message, pod=name)
    kept = {field: old[field] for field in ("resourceVersion", "uid", "creationTimestamp")}
    result = {**patched, "kind": "Pod", "apiVersion": "v1", "metadata": {**new, **kept}}
    _validate(result)
    return result


def _validate(pod: Pod) -> None:
    metadata = pod["metadata"]
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise StatusError(400, "BadRequest", f"metadata.{field} is not a map of strings", pod=metadata["name"])
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_VALUE.fullmatch(value):
            message = f'Pod "{metadata["name"]}" is invalid: metadata.labels: Invalid value: "{value}" of {key}'
            raise StatusError(422, "Invalid", message, pod=metadata["name"])
