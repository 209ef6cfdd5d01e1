"""The last changes of the roles and their reasons."""

from __future__ import annotations

import json

from sidecar.ipc.messages import StatusReply, TransitionStatus
from sidecar.observe.why import as_json_text, as_text
from tests.fakes.statuses import group_status

HISTORY = (
    TransitionStatus(at=1795408800.0, before="init", after="backup", reason="start", detail="listening"),
    TransitionStatus(
        at=1795408808.068,
        before="backup",
        after="master",
        reason="master-down",
        detail="no advert from 10.0.0.12 for 3.004 s",
    ),
)


def reply(transitions: int) -> StatusReply:
    group = group_status(history=HISTORY, transitions=transitions)
    return StatusReply(token=1, node="node-1", groups=(group,), interfaces=())


def test_for_people() -> None:
    assert as_text(reply(2)).splitlines() == [
        "web: MASTER on node-1",
        "  2026-11-23T04:40:00.000Z  init -> backup  start: listening",
        "  2026-11-23T04:40:08.068Z  backup -> master  master-down: no advert from 10.0.0.12 for 3.004 s",
    ]
    assert as_text(reply(66)).splitlines()[0] == "web: MASTER on node-1, 64 more before these"


def test_for_machines() -> None:
    document = json.loads(as_json_text(reply(2)))
    assert document["node"] == "node-1"
    (group,) = document["groups"]
    assert (group["name"], group["role"], len(group["transitions"])) == ("web", "master", 2)
    assert group["transitions"][1] == {
        "at": "2026-11-23T04:40:08.068Z",
        "before": "backup",
        "after": "master",
        "reason": "master-down",
        "detail": "no advert from 10.0.0.12 for 3.004 s",
    }
