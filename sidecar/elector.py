"""The parent's side of the engine: started with all that it has to know, listened to, told what it asked for."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from sidecar import realtime
from sidecar.children import Child, spawn
from sidecar.exits import EXIT_FAILED, ExitError
from sidecar.ipc.channel import ChannelClosedError
from sidecar.ipc.messages import Bind, Message, MessageError, Ready, Release, Renew, Stop
from sidecar.ipc.plan import Plan
from sidecar.reactor import Reactor

log = logging.getLogger(__name__)

Introduction = Callable[[], Iterable[tuple[Message, list[int]]]]
"""What a new engine is to be told, with the descriptors that go with each message."""
NAME = "engine"
BEGINS_WITHIN = 5.0
"""Seconds until a new engine is ready, and then until it has read its groups."""
LISTEN_AT_MOST = 0.02
"""Seconds of the engine's messages in one turn of the loop."""


class Elector:
    """One engine after the other; ``obey`` gets what it says. ``child`` is the one that runs now, or None."""

    def __init__(self, plan: Plan, reactor: Reactor, obey: Callable[[Message], None]) -> None:
        self.child: Child | None = None
        self.ready = False
        """Whether there is an engine that has been told of its groups; nothing else is told to one before."""
        self.begins_by = math.inf
        """When a new one counts as stuck (monotonic seconds)."""
        self._plan = plan
        self._reactor = reactor
        self._obey = obey
        self._introduction: Introduction = tuple
        self._heard: deque[Message] = deque()
        self._releases: Counter[str] = Counter()
        """By group, among what was heard and is not obeyed yet."""

    def start(self, introduction: Introduction) -> None:
        """Start the engine; once it is ready, tell it what ``introduction`` says then. Raises ExitError."""
        plan = self._plan
        now = time.monotonic()
        try:
            child = spawn(NAME, [plan.node_name, plan.log_level, plan.log_format], now=now)
        except OSError as error:
            raise ExitError(EXIT_FAILED, f"cannot start the engine: {error.strerror}") from error
        self.child = child
        self.begins_by = now + BEGINS_WITHIN
        self._introduction = introduction
        self._reactor.watch(child.channel.fileno(), self.listen)

    def _introduce(self, child: Child) -> None:
        self.ready, self.begins_by = True, math.inf
        if self._plan.realtime == "auto":
            realtime.prefer(child.process.pid)  # not before: its start is heavy work that nobody waits for
        # Without the right to a larger buffer many groups do not fit: wait for the engine to read.
        child.channel.socket.settimeout(BEGINS_WITHIN)
        try:
            for message, descriptors in self._introduction():
                child.channel.send(message, descriptors)
        except ChannelClosedError:
            return  # it died at once: SIGCHLD tells
        except TimeoutError:
            self._give_up_on(child)
        child.channel.socket.setblocking(False)

    def check(self, now: float) -> None:
        """End an engine that has not become ready in time; now is in monotonic seconds."""
        if self.child is not None and now >= self.begins_by:
            self.begins_by = math.inf
            self._give_up_on(self.child)

    def _give_up_on(self, child: Child) -> None:
        log.error("the engine does not read what it is told; it is started anew")
        child.kill()

    def listen(self) -> None:
        """Obey what the engine has said, for a while: signals, links and clients wait meanwhile."""
        child = self.child
        if child is None:
            return
        try:
            while (got := child.channel.receive()) is not None:
                if isinstance(got[0], Ready):
                    self._introduce(child)
                else:
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

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Tell the engine something, if there is one that is ready; one that does not read is ended."""
        if self.child is None or not self.ready:
            return
        try:
            self.child.channel.send(message, descriptors)
        except ChannelClosedError:
            return  # its end arrives as SIGCHLD
        except BlockingIOError:
            self._give_up_on(self.child)

    def stop(self) -> None:
        """Have the engine hand over and end; one that is not ready yet has nothing to hand over."""
        if self.child is not None and not self.ready:
            self.child.kill()
        self.tell(Stop())

    def ended(self) -> None:
        """Hear the last words of an engine that is gone."""
        self.listen()
        while self._heard:
            self._obey_next()
        self._releases.clear()
        self.child, self.ready, self.begins_by = None, False, math.inf
