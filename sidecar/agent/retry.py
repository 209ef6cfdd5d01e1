"""Does one thing whenever something has changed, and again until it worked. The shape of everything that reconciles."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from sidecar.agent.backoff import Backoff
from sidecar.agent.errors import ApiError


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
