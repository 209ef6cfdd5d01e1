"""Does one thing whenever something has changed, and again until it worked. The shape of everything that reconciles."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType

from sidecar.agent.backoff import Backoff
from sidecar.agent.errors import ApiError


class Failures:
    """Keeps the ApiErrors of several things, each done inside ``with``, so that one does not hold up the others.

    ``error`` is the one that says best when to try again: rather one that passes, by the longest time asked for.
    """

    def __init__(self) -> None:
        self.error: ApiError | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(value, ApiError):
            return False
        self.note(value)
        return True

    def note(self, error: ApiError | None) -> None:
        """Keep one that was caught already."""
        self.error = max(filter(None, (error, self.error)), key=_urgency, default=None)

    def throw(self) -> None:
        """Raise what was kept, if anything was."""
        if self.error is not None:
            raise self.error


def _urgency(error: ApiError) -> tuple[bool, float]:
    return error.passes, error.retry_after


class Loop:
    """``work`` returns the seconds after which it wants to be called again, None: when something changes.

    An ApiError of it is told to ``failed`` and tried again later; a wake-up does not cut that short, or a network that
    flaps would hammer an API server in trouble. ``failed(None)``: it worked.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[float | None]],
        *,
        failed: Callable[[ApiError | None], None],
        jitter: Callable[[], float],
    ) -> None:
        self._work = work
        self._failed = failed
        self._backoff = Backoff(jitter)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that something has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        wait: float | None = None
        while True:
            await self._wait(wait)
            self._woken.clear()
            try:
                wait = await self._work()
            except ApiError as error:
                self._failed(error)
                await asyncio.sleep(self._backoff.after(error))
                wait = 0.0
                continue
            self._failed(None)
            self._backoff.settle()

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # asyncio.wait_for loses a cancellation that comes with the wake-up
                await self._woken.wait()
