"""The parent's side of the engine: started with all that it has to know, listened to, told what it asked for."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

from sidecar.children import Child, spawn
from sidecar.exits import EXIT_FAILED, ExitError
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import Bind, Message, MessageError, Release, Renew
from sidecar.ipc.plan import Plan
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

NAME = "engine"
BEGINS_WITHIN = 5.0
"""Seconds until a new engine reads its groups."""
LISTEN_AT_MOST = 0.02
"""Seconds of the engine's messages in one turn of the loop."""


class Elector:
    """One engine after the other; ``obey`` gets what it says. ``child`` is the one that runs now, or None."""

    def __init__(self, plan: Plan, reactor: Reactor, obey: Callable[[Message], None]) -> None:
        self.child: Child | None = None
        self._plan = plan
        self._reactor = reactor
        self._obey = obey
        self._heard: deque[Message] = deque()
        self._releases: Counter[str] = Counter()
        """By group, among what was heard and is not obeyed yet."""

    def start(self, introduction: Iterable[tuple[Message, list[int]]]) -> None:
        """Start the engine and tell it these messages with their descriptors. Raises ExitError."""
        plan = self._plan
        try:
            child = spawn(NAME, [plan.node_name, plan.log_level, plan.log_format], now=time.monotonic())
        except OSError as error:
            raise ExitError(EXIT_FAILED, f"cannot start the engine: {error.strerror}") from error
        self.child = child
        self._reactor.watch(child.channel.fileno(), self.listen)
        # Without the right to a larger buffer many groups do not fit: wait for the engine to read.
        child.channel.socket.settimeout(BEGINS_WITHIN)
        try:
            for message, descriptors in introduction:
                child.channel.send(message, descriptors)
        except ChannelClosedError:
            return  # it died at once: SIGCHLD tells
        except TimeoutError:
            log.error("the engine does not read what it is told; it is started anew")  # noqa: TRY400
            child.kill()
        child.channel.socket.setblocking(False)

    def listen(self) -> None:
        """Obey what the engine has said, for a while: signals, links and clients wait meanwhile."""
        child = self.child
        if child is None:
            return
        try:
            while (got := child.channel.receive()) is not None:
                self._hear(got[0])
        except ChannelClosedError:
            self._reactor.unwatch(child.channel.fileno())
        except MessageError as error:
            log.error("the engine sent nonsense (%s); it is started anew", error)  # noqa: TRY400
            child.kill()
        enough = time.monotonic() + LISTEN_AT_MOST
        while self._heard and time.monotonic() < enough:
            self._obey_next()

    @property
    def waiting(self) -> bool:
        """Whether something that the engine said has not been obeyed yet."""
        return bool(self._heard)

    def _hear(self, message: Message) -> None:
        self._heard.append(message)
        if isinstance(message, Release):
            self._releases[message.group] += 1

    def _obey_next(self) -> None:
        message = self._heard.popleft()
        match message:
            case Release(group=group):
                self._releases[group] -= 1
            case Bind(group=group) | Renew(group=group) if self._releases[group]:
                return  # given up meanwhile, while this process was not run: the VIPs may be a successor's by now
        self._obey(message)

    def tell(self, message: Message) -> None:
        """Tell the engine something, if there is one; one that does not read is ended."""
        if self.child is None:
            return
        try:
            self.child.channel.send(message)
        except ChannelClosedError:
            return  # its end arrives as SIGCHLD
        except BlockingIOError:
            log.error("the engine does not read what it is told; it is started anew")  # noqa: TRY400
            self.child.kill()

    def ended(self) -> None:
        """Hear the last words of an engine that is gone."""
        self.listen()
        while self._heard:
            self._obey_next()
        self._releases.clear()
        self.child = None
