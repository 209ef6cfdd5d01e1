from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.demo.table import age, pod_table

POD: dict[str, Any] = {
    "metadata": {"name": "carp-a", "namespace": "n", "labels": {"app": "x"}},
    "spec": {
        "nodeName": "node-1",
        "containers": [{}, {}],
        "readinessGates": [{"conditionType": "carp-sidecar/master"}],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "containerStatuses": [
            {"ready": True, "restartCount": 2, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
            {"ready": True, "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ],
        "conditions": [{"type": "carp-sidecar/master", "status": "True"}],
    },
}


def rendered(pod: dict[str, Any], *, minutes: int = 0, include: str = "") -> dict[str, Any]:
    created = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    pod = {**pod, "metadata": {**pod["metadata"], "creationTimestamp": created}}
    return pod_table([pod], resource_version="7", include=include)


def test_a_table_has_the_columns_of_kubectl_and_a_cell_for_each() -> None:
    table = rendered(POD, minutes=20)
    assert (table["kind"], table["metadata"]) == ("Table", {"resourceVersion": "7"})
    shown = [column["name"].upper() for column in table["columnDefinitions"] if column["priority"] == 0]
    wide = [column["name"].upper() for column in table["columnDefinitions"] if column["priority"] == 1]
    assert shown == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert wide == ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    assert table["rows"][0]["cells"] == ["carp-a", "1/2", "Running", "3", "20m", "10.0.0.1", "node-1", "<none>", "1/1"]


def test_what_is_not_known_is_shown_as_kubectl_does() -> None:
    bare = {"metadata": {"name": "b"}, "spec": {"containers": [{}]}, "status": {"phase": "Pending"}}
    cells = rendered(bare)["rows"][0]["cells"]
    assert cells[:4] == ["b", "0/1", "Pending", "0"]
    assert cells[5:] == ["<none>", "<none>", "<none>", "<none>"]


def test_a_reason_says_more_than_the_phase() -> None:
    assert rendered({**POD, "status": {"phase": "Failed", "reason": "Evicted"}})["rows"][0]["cells"][2] == "Evicted"


def test_rows_carry_what_was_asked_for() -> None:
    assert rendered(POD, include="None")["rows"][0]["object"] is None
    assert rendered(POD, include="Object")["rows"][0]["object"]["spec"] == POD["spec"]
    partial = rendered(POD, include="Metadata")["rows"][0]["object"]
    assert partial["kind"] == "PartialObjectMetadata"
    assert partial["metadata"]["labels"] == {"app": "x"}
    assert "spec" not in partial


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (599, "9m59s"), (600, "10m"), (10800, "3h")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text
