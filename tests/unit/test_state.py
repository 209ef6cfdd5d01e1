"""How the mirror stands, as others read it."""

from __future__ import annotations

import json

from sidecar.agent.state import ApiState, MirrorStatus, state_of


def test_it_is_behind_from_a_change_until_it_is_written() -> None:
    status = MirrorStatus()
    assert status.lag(100.0) == 0.0
    status.pending_since = 90.0
    assert (status.lag(100.0), status.lag(80.0)) == (10.0, 0.0)


def test_each_failure_has_a_state() -> None:
    states = {code: state_of(code) for code in (None, 401, 403, 404, 429, 500, 503)}
    assert set(states.values()) == set(ApiState) - {ApiState.OK, ApiState.UNKNOWN}


def test_as_a_document() -> None:
    status = MirrorStatus(last_error="x", last_error_at=0.0, pending_since=90.0, missing_rights={"b", "a"})
    status.answered("patch", "pods", 200)
    status.failed("patch", "pods")
    document = json.loads(json.dumps(status.document(100.0)))
    assert (document["api"], document["lag_seconds"], document["pending"]) == ("unknown", 10.0, True)
    assert (document["last_error_at"], document["missing_rights"]) == ("1970-01-01T00:00:00.000Z", ["a", "b"])
    assert document["requests"] == [
        {"verb": "patch", "resource": "pods", "code": "", "count": 1},
        {"verb": "patch", "resource": "pods", "code": "200", "count": 1},
    ]
