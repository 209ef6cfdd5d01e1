"""The table of pods that an API server draws up for ``kubectl get``. Pure but for the age, which counts from now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Pod = dict[str, Any]

_COLUMNS = (
    ("Name", "string", 0),
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    ("Age", "string", 0),
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
)


def pod_table(pods: list[Pod], *, resource_version: str, include: str) -> dict[str, Any]:
    """Return a meta.k8s.io/v1 Table; ``include`` is what each row carries: None, Metadata or Object."""
    now = datetime.now(UTC)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": resource_version},
        "columnDefinitions": [
            {"name": name, "type": kind, "format": "name" if name == "Name" else "", "description": "", "priority": at}
            for name, kind, at in _COLUMNS
        ],
        "rows": [{"cells": _cells(pod, now), "object": _row_object(pod, include)} for pod in pods],
    }


def age(seconds: float) -> str:
    """Return a duration as kubectl writes it, but in hours at most: nothing here lives for days."""
    whole = max(0, int(seconds))
    minutes = whole // 60
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    return f"{minutes}m" if minutes < 180 else f"{minutes // 60}h"


def _cells(pod: Pod, now: datetime) -> list[str]:
    spec, status = pod.get("spec", {}), pod.get("status", {})
    containers = status.get("containerStatuses", [])
    ready = sum(1 for container in containers if container.get("ready") and container.get("state", {}).get("running"))
    restarts = sum(int(container.get("restartCount", 0)) for container in containers)
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return [
        pod["metadata"]["name"],
        f"{ready}/{len(spec.get('containers', []))}",
        status.get("reason") or status.get("phase", "Unknown"),
        str(restarts),
        age((now - created).total_seconds()),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        _gates(spec.get("readinessGates", []), status.get("conditions", [])),
    ]


def _gates(gates: list[dict[str, str]], conditions: list[dict[str, str]]) -> str:
    if not gates:
        return "<none>"
    true = {condition["type"] for condition in conditions if condition.get("status") == "True"}
    return f"{sum(1 for gate in gates if gate['conditionType'] in true)}/{len(gates)}"


def _row_object(pod: Pod, include: str) -> Pod | None:
    match include:
        case "None":
            return None
        case "Object":
            return pod
        case _:
            return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": pod["metadata"]}
