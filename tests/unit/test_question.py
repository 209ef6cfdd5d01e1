"""The agent's questions to the engine: few, never two at once, and an end to every wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sidecar.agent import question
from sidecar.agent.question import FRESH, GIVEN_UP_AFTER, Engine, NoAnswerError
from sidecar.ipc.messages import StatusReply, StatusRequest, Unavailable
from tests.fakes.statuses import group_status, status_reply


class Parent:
    """Hears the questions and answers when it is told to. Its clock stands."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[StatusRequest] = []
        self.engine = Engine(self.asked.append, clock=lambda: self.now)

    async def asks(self, count: int = 1) -> list[asyncio.Task[StatusReply]]:
        tasks = [asyncio.create_task(self.engine.status()) for _ in range(count)]
        await asyncio.sleep(0)
        return tasks

    def answers(self, reply: StatusReply | None = None, **changes: object) -> None:
        changed = {"token": self.asked[-1].token, **changes}
        self.engine.heard(status_reply(*(reply.groups if reply else ()), **changed))


def play(scene: Callable[[Parent], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(Parent())

    asyncio.run(run())


def test_many_who_ask_at_once_are_one_question() -> None:
    async def scene(parent: Parent) -> None:
        tasks = await parent.asks(20)
        assert parent.asked == [StatusRequest(token=1)]
        parent.answers()
        replies = await asyncio.gather(*tasks)
        assert all(reply is replies[0] for reply in replies)

    play(scene)


def test_an_answer_serves_for_a_second() -> None:
    async def scene(parent: Parent) -> None:
        (task,) = await parent.asks()
        parent.answers(node="first")
        assert (await task).node == "first"
        parent.now += FRESH * 0.99
        assert (await parent.engine.status()).node == "first"
        assert len(parent.asked) == 1
        parent.now += FRESH * 0.01
        (task,) = await parent.asks()
        parent.answers(node="second")
        assert (await task).node == "second"

    play(scene)


def test_pages_are_put_together() -> None:
    async def scene(parent: Parent) -> None:
        (task,) = await parent.asks()
        parent.answers(status_reply(group_status(name="a"), group_status(name="b")), more=2)
        assert parent.asked[1:] == [StatusRequest(token=2, first=2)]
        parent.answers(status_reply(group_status(name="c")))
        assert [group.name for group in (await task).groups] == ["a", "b", "c"]

    play(scene)


def test_no_engine_is_said_in_the_parents_words_and_asked_again_at_once() -> None:
    async def scene(parent: Parent) -> None:
        (task,) = await parent.asks()
        parent.engine.heard(Unavailable(why="the engine is not running"))
        with pytest.raises(NoAnswerError, match=r"^the engine is not running$"):
            await task
        (task,) = await parent.asks()
        parent.answers()
        assert await task

    play(scene)


def test_silence_is_told_with_its_length_and_the_question_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "ANSWER_WITHIN", 0.0)

    async def scene(parent: Parent) -> None:
        (task,) = await parent.asks()
        parent.now += 0.5
        with pytest.raises(NoAnswerError, match=r"^the engine has not turned its loop for 0\.5 s$"):
            await task
        (task,) = await parent.asks()
        parent.now += 2.0
        with pytest.raises(NoAnswerError, match=r"for 2\.5 s$"):
            await task
        assert len(parent.asked) == 1
        parent.answers()  # it was only slow
        assert await parent.engine.status()

    play(scene)


def test_a_question_that_was_lost_is_put_again_and_an_answer_to_the_old_one_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(question, "ANSWER_WITHIN", 0.0)

    async def scene(parent: Parent) -> None:
        (task,) = await parent.asks()
        with pytest.raises(NoAnswerError):
            await task
        parent.now += GIVEN_UP_AFTER
        monkeypatch.setattr(question, "ANSWER_WITHIN", 60.0)
        (task,) = await parent.asks()
        assert parent.asked == [StatusRequest(token=1), StatusRequest(token=2)]
        parent.answers(token=1, node="old")
        parent.answers(node="new")
        assert (await task).node == "new"

    play(scene)


def test_an_answer_that_nobody_waits_for_is_nothing() -> None:
    async def scene(parent: Parent) -> None:
        parent.engine.heard(status_reply())
        parent.engine.heard(Unavailable(why="x"))
        await parent.asks()
        assert len(parent.asked) == 1

    play(scene)
