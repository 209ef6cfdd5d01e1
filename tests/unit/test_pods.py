"""The list of pods that people look at: read only when they do, and not too often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sidecar.agent import desired, pods
from sidecar.agent.desired import Pod
from sidecar.agent.errors import ApiError
from sidecar.agent.follow import Listed, Which
from sidecar.agent.pods import FRESH, Pods

WHICH = Which(labels="carp-role-web")
KEYS = [desired.keys(role_label="carp-role", group=name, several=True) for name in ("web", "db")]


class Api:
    """Lists what the test says when it says so; its clock stands."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[Which] = []
        self.answer: Listed[Pod] | ApiError = Listed((), "1")
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.pods = Pods(self, WHICH, KEYS, clock=lambda: self.now, wall=lambda: 1795408808.068)  # type: ignore[arg-type]

    async def list(self, which: Which) -> Listed[Pod]:
        self.asked.append(which)
        await self.may_answer.wait()
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer


def pod(name: str, **labels: str) -> Pod:
    return Pod(name=name, resource_version="1", labels={f"carp-role-{k}": v for k, v in labels.items()}, annotations={},
               ips=("10.0.0.11",))  # fmt: skip


def play(scene: Callable[[Api], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(Api())

    asyncio.run(run())


def test_each_pod_with_its_roles() -> None:
    async def scene(api: Api) -> None:
        api.answer = Listed((pod("a", web="master", db="backup"), pod("b", web="backup", other="x")), "1")
        assert await api.pods.look() == {
            "pods": [
                {"name": "a", "roles": {"web": "master", "db": "backup"}, "addresses": ["10.0.0.11"], "ready": True},
                {"name": "b", "roles": {"web": "backup"}, "addresses": ["10.0.0.11"], "ready": True},
            ],
            "as_of": "2026-11-23T04:40:08.068Z",
            "error": "",
        }
        assert api.asked == [WHICH]

    play(scene)


def test_nobody_looks_nobody_asks_and_many_who_look_are_one_question_in_a_while() -> None:
    async def scene(api: Api) -> None:
        assert api.asked == []
        await asyncio.gather(*(api.pods.look() for _ in range(20)))
        await api.pods.look()
        assert len(api.asked) == 1
        api.now += FRESH
        await api.pods.look()
        await asyncio.sleep(0)
        assert len(api.asked) == 2

    play(scene)


def test_an_api_server_that_hangs_keeps_nobody_waiting_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "ANSWER_WITHIN", 0.0)

    async def scene(api: Api) -> None:
        api.may_answer.clear()
        for _ in range(3):
            api.now += FRESH
            assert await api.pods.look() == {"pods": None, "as_of": None, "error": ""}
        assert len(api.asked) == 1
        api.may_answer.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await api.pods.look())["pods"] == []

    play(scene)


def test_what_was_known_is_told_with_its_time_while_the_api_server_is_away() -> None:
    async def scene(api: Api) -> None:
        api.answer = Listed((pod("a", web="master"),), "1")
        before = await api.pods.look()
        api.answer = ApiError("the API server does not answer in time")
        api.now += FRESH
        await api.pods.look()
        await asyncio.sleep(0)
        assert await api.pods.look() == before | {"error": "the API server does not answer in time"}

    play(scene)


def test_no_more_pods_than_a_page_bears() -> None:
    async def scene(api: Api) -> None:
        api.answer = Listed(tuple(pod(f"p{number}", web="backup") for number in range(600)), "1")
        shown = (await api.pods.look())["pods"]
        assert isinstance(shown, list)
        assert len(shown) == 500

    play(scene)
