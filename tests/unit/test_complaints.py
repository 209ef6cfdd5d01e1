"""One line per state, and the state itself for the metrics."""

from __future__ import annotations

import logging

import pytest

from sidecar.agent.complaints import Complaints
from sidecar.agent.errors import ApiError
from sidecar.agent.state import ApiState, MirrorStatus

DOWN, HANGS = ApiError("it cannot be reached"), ApiError("it does not answer")


def test_a_state_is_told_once_however_many_are_held_up_by_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    status = MirrorStatus()
    complaints = Complaints(status, lambda: 7.0)
    assert status.api is ApiState.UNKNOWN
    for error in (DOWN, HANGS, DOWN):
        complaints.note("pods", error)
        complaints.note("watch", error)
    assert (status.api, status.last_error, status.last_error_at) == (ApiState.UNREACHABLE, str(DOWN), 7.0)
    complaints.note("pods", None)
    complaints.note("watch", ApiError("it fails", 500))
    complaints.note("watch", ApiError("it fails", 500))
    assert status.api is ApiState.FAILING
    complaints.note("watch", ApiError("slow", 429))
    assert status.api is ApiState.THROTTLED
    complaints.note("watch", None)
    complaints.note("watch", None)
    assert status.api is ApiState.OK
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "it cannot be reached",
        "it fails",
        "slow",
        "Kubernetes is told of everything again",
    ]


def test_each_right_that_is_missing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    status = MirrorStatus()
    complaints = Complaints(status, lambda: 0.0)
    for _ in range(3):
        complaints.note("a", ApiError("no patch", 403, right="patch pods"))
        complaints.note("b", ApiError("no list", 403, right="list pods"))
    assert [message.partition(";")[0] for message in caplog.messages] == ["no patch", "no list"]
    assert status.missing_rights == {"patch pods", "list pods"}
    assert status.api is ApiState.REFUSED


def test_a_conflict_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    status = MirrorStatus()
    Complaints(status, lambda: 0.0).note("pods", ApiError("modified", 409))
    assert (caplog.messages, status.api) == ([], ApiState.UNKNOWN)
