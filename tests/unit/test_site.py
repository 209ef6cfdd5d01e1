"""What each path of the HTTP listener says, and to what it pays no attention."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.agent.pods import Pods
from sidecar.agent.question import Engine, NoAnswerError
from sidecar.agent.site import Answer, Site
from sidecar.agent.state import ApiState, MirrorStatus
from sidecar.ipc.messages import StatusReply
from sidecar.observe.status import as_json_text
from tests.fakes.statuses import group_status, status_reply

MIRROR = MirrorStatus(api=ApiState.REFUSED, pending_since=1795408806.068)


class FakeEngine(Engine):
    def __init__(self, reply: StatusReply | None) -> None:
        self.reply = reply

    async def status(self) -> StatusReply:
        if self.reply is None:
            raise NoAnswerError("the engine has not turned its loop for 7.0 s")
        return self.reply


NOW = 1795408808.068


def get(path: str, reply: StatusReply | None, mirror: MirrorStatus | None = None) -> Answer:
    return asyncio.run(Site(FakeEngine(reply), mirror=mirror, wall=lambda: NOW).get(path))


def text(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_an_engine_that_does_not_answer_is_unhealthy_and_the_reason_is_said(path: str) -> None:
    assert text(get(path, None)) == (503, "the engine has not turned its loop for 7.0 s\n")


@pytest.mark.parametrize("role", ["master", "backup", "init"])
def test_healthy_is_who_turns_its_loop_whatever_its_role(role: str) -> None:
    assert text(get("/healthz", status_reply(group_status(role=role)))) == (200, "ok\n")


@pytest.mark.parametrize("role", ["master", "backup"])
def test_a_backup_is_as_ready_as_a_master(role: str) -> None:
    assert text(get("/readyz", status_reply(group_status(role=role)))) == (200, "ok\n")


def test_not_ready_is_who_takes_no_part_in_an_election() -> None:
    out = group_status(name="db", role="init", detail="no carrier (eth1)")
    assert text(get("/readyz", status_reply(group_status(), out))) == (503, "group db is init: no carrier (eth1)\n")


def test_the_status_is_the_commands_and_the_mirrors() -> None:
    answer = get("/status", status_reply(), MIRROR)
    document = json.loads(answer.body)
    assert (answer.status, answer.kind, document.pop("mirror")) == (200, "application/json", MIRROR.document(NOW))
    assert document.pop("time") == "2026-11-23T04:40:08.068Z"
    assert document == json.loads(as_json_text(status_reply()))


def test_the_mirror_has_metrics_of_its_own() -> None:
    assert b"carp_label_lag_seconds 2\n" in get("/metrics", None, MIRROR).body


def test_pods_are_there_where_kubernetes_is() -> None:
    class Listed(Pods):
        def __init__(self) -> None:
            pass

        async def look(self) -> dict[str, object]:
            return {"pods": []}

    site = Site(FakeEngine(None), mirror=MIRROR, pods=Listed())
    answer = asyncio.run(site.get("/pods"))
    assert (answer.status, answer.kind, json.loads(answer.body)) == (200, "application/json", {"pods": []})
    assert get("/pods", status_reply()).status == 404


def test_no_status_is_told_as_json_too() -> None:
    answer = get("/status", None)
    assert (answer.status, answer.kind) == (503, "application/json")
    assert json.loads(answer.body) == {"error": "the engine has not turned its loop for 7.0 s"}


def test_metrics_are_there_while_the_engine_is_not() -> None:
    assert b"carp_engine_up 1\n" in get("/metrics", status_reply()).body
    silent = get("/metrics", None)
    assert (silent.status, silent.kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"carp_engine_up 0\n" in silent.body
    assert b"carp_role" not in silent.body


@pytest.mark.parametrize("path", ["/nothing", "//healthz", "/healthz/", "/../status", ""])
def test_elsewhere_there_is_nothing(path: str) -> None:
    assert get(path, status_reply()).status == 404
