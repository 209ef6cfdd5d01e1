"""What the engine says, asked by way of the parent: one question at a time, however many want to know."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import msgspec

from sidecar.ipc.messages import GroupStatus, StatusReply, StatusRequest, Unavailable

FRESH = 1.0
"""Seconds for which an answer serves everybody who asks."""
ANSWER_WITHIN = 0.8
"""Seconds that somebody waits: less than a kubelet's probe does by default."""
GIVEN_UP_AFTER = 5.0
"""Seconds after which a question counts as lost and is put again."""


class NoAnswerError(Exception):
    """The engine does not tell how it stands; the message says why."""


class Engine:
    """The engine as the agent sees it. ``send`` puts a question to the parent, ``clock`` is in monotonic seconds."""

    def __init__(self, send: Callable[[StatusRequest], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._last: StatusReply | None = None
        self._last_at = -math.inf
        self._token = 0
        self._pages: list[GroupStatus] = []
        self._waiting: asyncio.Future[StatusReply | Unavailable] | None = None
        self._asked_at = -math.inf
        """The first question since the last answer."""
        self._put_at = -math.inf
        """The last one."""

    async def status(self) -> StatusReply:
        """Return how everything stands, at most ``FRESH`` seconds ago. Raises NoAnswerError."""
        now = self._clock()
        if self._last is not None and now - self._last_at < FRESH:
            return self._last
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            self._asked_at = now
            self._ask(now)
        elif now - self._put_at >= GIVEN_UP_AFTER:
            self._ask(now)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await asyncio.shield(self._waiting)
        except TimeoutError:
            silent = self._clock() - self._asked_at
            raise NoAnswerError(f"the engine has not turned its loop for {silent:.1f} s") from None
        if isinstance(answer, Unavailable):
            raise NoAnswerError(answer.why)
        return answer

    def heard(self, message: StatusReply | Unavailable) -> None:
        """Take an answer that the parent passed on; one to another question than the last counts for nothing."""
        if self._waiting is None:
            return
        if isinstance(message, Unavailable):
            self._settle(message)
        elif message.token == self._token:
            self._pages += message.groups
            if message.more is not None:
                self._ask_page(message.more)
                return
            self._last = msgspec.structs.replace(message, groups=tuple(self._pages))
            self._last_at = self._clock()
            self._settle(self._last)

    def _ask(self, now: float) -> None:
        self._put_at = now
        self._pages = []
        self._ask_page(0)

    def _ask_page(self, first: int) -> None:
        self._token += 1
        self._send(StatusRequest(token=self._token, first=first))

    def _settle(self, answer: StatusReply | Unavailable) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.set_result(answer)
