"""Doing one thing whenever something changed, and again until it worked."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.agent.errors import ApiError
from sidecar.agent.retry import Failures, Loop
from tests.fakes.time import run


class Work:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.errors: list[ApiError] = []
        self.again: float | None = None
        self.told: list[ApiError | None] = []
        self.loop = Loop(self.do, failed=self.told.append, jitter=lambda: 1.0)

    async def do(self) -> float | None:
        self.times.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop()
        return self.again


def test_it_works_when_woken_and_not_otherwise() -> None:
    async def story() -> None:
        work = Work()
        task = asyncio.create_task(work.loop.run())
        await asyncio.sleep(10)
        assert work.times == []
        for _ in range(3):
            work.loop.wake()  # several are one
        await asyncio.sleep(10)
        assert work.times == [10.0]
        work.again = 5.0
        work.loop.wake()
        await asyncio.sleep(12)
        assert work.times == [10.0, 20.0, 25.0, 30.0]
        task.cancel()

    run(story())


def test_a_failure_is_tried_again_and_a_wake_up_does_not_hasten_it() -> None:
    async def story() -> None:
        work = Work()
        work.errors = [ApiError("slow", 429, retry_after=9.0)]
        task = asyncio.create_task(work.loop.run())
        work.loop.wake()
        await asyncio.sleep(1)
        work.loop.wake()
        await asyncio.sleep(20)
        assert work.times == [0.0, 9.1]
        assert [error and error.status for error in work.told] == [429, None]
        task.cancel()

    run(story())


def test_what_fails_among_several_is_raised_at_the_end_by_when_it_is_worth_while_to_try_again() -> None:
    failures = Failures()
    failures.throw()
    done = []
    answers = (ApiError("no", 403), ApiError("slow", 429, retry_after=9.0), ApiError("cut"), None, ApiError("no", 422))
    for answer in answers:
        with failures:
            if answer is not None:
                raise answer
            done.append("good")
    assert done == ["good"]
    with pytest.raises(ApiError, match="slow"):
        failures.throw()


def test_only_what_an_api_server_may_do_is_survived() -> None:
    with pytest.raises(ZeroDivisionError), Failures():
        raise ZeroDivisionError
