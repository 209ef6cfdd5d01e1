"""Carries the plan out: one pod at a time, with bounded waits, and tells each step."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import assert_never

from sidecar.agent.backoff import Backoff
from sidecar.agent.errors import ApiError
from sidecar.rollout.cluster import Cluster, RolloutError
from sidecar.rollout.plan import Ask, Done, Fleet, Pod, Replace, Standing, Wait, next_step, standing

_EVERY = 1.0
"""Seconds between two looks: three small requests, for as long as a rollout takes."""
_REFUSED_FOR = 10.0
"""Seconds for which a refusal (401, 403, 404) may be one of a server that has not read the newest rules yet."""
_ANSWERED_WITHIN = 10.0
"""Seconds for which others are asked to stand aside, for one pod in all: an older version never does, nor an agent that
hangs, nor can it be asked where the server lets nobody write."""
_FRESH = 60.0
"""Seconds in which an answer counts: whoever gave it stands aside for twice as long (``agent.aside``)."""
_PATIENCE = 20.0
"""Seconds after which it is told what is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One line: ``event`` is asking, replacing, ready, waiting or done; what does not belong to it is empty."""

    event: str
    node: str = ""
    pod: str = ""
    master_of: tuple[str, ...] = ()
    why: str = ""
    replaced: int | None = None
    moves: tuple[tuple[str, int, str], ...] = ()
    """By label: how often the master changed, and the node where it is now."""


class Rollout:
    """``run`` returns once all pods are new. Each node may take ``patience`` seconds; ``clock`` is monotonic.

    ``name`` is no other rollout's: what is answered to one is not answered to another.
    """

    def __init__(  # noqa: PLR0913 - how to sleep and what the time is are for tests
        self,
        cluster: Cluster,
        tell: Callable[[News], None],
        *,
        name: str,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._tell = tell
        self._name = name
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(random.random)
        self._before = Standing()
        self._in_hand: Pod | None = None
        self._replaced = 0
        self._start = self._begun = self._answered = clock()
        self._waiting = ("", clock())
        self._told = False
        self._ready_since: dict[str, float] = {}
        self._moves: dict[str, list[str]] = {}
        self._told_ask: tuple[str, tuple[str, ...]] | None = None
        self._asking = 0.0
        """Seconds that asking has taken since the last pod was deleted; no waiting in between is counted."""
        self._deaf: set[str] = set()

    async def run(self) -> None:
        """Replace what is old. Raises RolloutError; what was not touched by then stays as it is."""
        while True:
            try:
                if await self._turn():
                    return
            except ApiError as error:
                self._bear(error)
                await self._sleep(self._backoff.after(error))
            else:
                self._answered = self._clock()
                self._backoff.settle()
                await self._sleep(_EVERY)

    async def _turn(self) -> bool:
        """Look, and do what is next; tell whether that was all. Raises ApiError and RolloutError."""
        fleet = await self._cluster.look()
        self._note_masters(fleet)
        question = f"{self._name}-{int((self._clock() - self._start) / _FRESH)}"
        available = self._available(fleet)
        match next_step(fleet, before=self._before, available=available, deaf=self._deaf, question=question):
            case Wait(why):
                self._wait(why, fleet)
            case Ask() as ask:
                self._settled(fleet)
                await self._ask(ask)
            case Replace(pod):
                self._settled(fleet)
                await self._replace(pod, fleet)
            case Done():
                self._settled(fleet)
                moves = tuple((label, len(nodes) - 1, nodes[-1]) for label, nodes in sorted(self._moves.items()))
                self._tell(News(event="done", replaced=self._replaced, moves=moves))
                return True
            case never:
                assert_never(never)
        return False

    async def _ask(self, ask: Ask) -> None:
        """Have others stand aside; one that does not in time only makes a VIP move once more."""
        nodes, now = ", ".join(pod.node for pod in ask.others), self._clock()
        if not self._asking:
            self._begun = now  # it is the next node's turn
        if (ask.pod.uid, ask.labels) != self._told_ask:
            self._told_ask = ask.pod.uid, ask.labels
            self._tell_ask(ask, f"asking {nodes} to stand aside for {', '.join(ask.labels)}")
        why = await self._write(ask, until=now + _ANSWERED_WITHIN)
        if self._asking >= _ANSWERED_WITHIN:
            self._deaf.update(pod.uid for pod in ask.others)
            self._tell_ask(ask, f"{nodes} may take over and pass it on once more: {why}")
        self._asking += self._clock() - now + _EVERY

    async def _write(self, ask: Ask, *, until: float) -> str:
        """Write the word on whoever has not got it; return why they may not have answered."""
        why = "no answer"
        for pod in ask.others:
            if pod.asked == ask.word or self._clock() >= until:
                continue
            try:
                await self._cluster.ask(pod, ask.word)
            except ApiError as error:  # whatever it is, it stops no rollout: if the server is away, the next look tells
                if error.status not in (404, 409):
                    why = str(error)
        return why

    def _tell_ask(self, ask: Ask, why: str) -> None:
        self._tell(News(event="asking", node=ask.pod.node, pod=ask.pod.name, why=why))

    async def _replace(self, pod: Pod, fleet: Fleet) -> None:
        self._before, self._begun, self._in_hand = standing(fleet), self._clock(), pod
        try:
            await self._cluster.delete(pod)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return  # gone, or changed since it was read: the next look tells what that means
        self._asking = 0.0
        self._tell(News(event="replacing", node=pod.node, pod=pod.name, master_of=fleet.mastered(pod.node)))

    def _settled(self, fleet: Fleet) -> None:
        """Tell that the node in hand is back, if its pod was deleted indeed."""
        pod, self._in_hand = self._in_hand, None
        if pod is not None and pod.uid not in {each.uid for each in fleet.pods}:
            self._replaced += 1
            names = ", ".join(each.name for each in fleet.pods if each.node == pod.node)
            self._tell(News(event="ready", node=pod.node, pod=names, replaced=self._replaced))

    def _wait(self, why: str, fleet: Fleet) -> None:
        now = self._clock()
        if why != self._waiting[0]:
            self._waiting, self._told = (why, now), False
        if now - self._begun > self._patience:
            raise RolloutError(f"{why}, after {self._patience:g} s; {_left(fleet)}")
        if now - self._waiting[1] >= _PATIENCE and not self._told:
            self._told = True
            self._tell(News(event="waiting", why=why))

    def _bear(self, error: ApiError) -> None:
        """Put up with an API server that is away for a while. Raises RolloutError."""
        allowed = _REFUSED_FOR if error.status in (401, 403, 404) else self._patience
        if self._clock() - self._answered > allowed:
            raise RolloutError(str(error)) from error
        if str(error) != self._waiting[0]:
            self._waiting = (str(error), self._clock())
            self._tell(News(event="waiting", why=str(error)))

    def _available(self, fleet: Fleet) -> Collection[str]:
        """Return the uids of the pods that we have seen ready for long enough: nobody's wall clock is asked."""
        now = self._clock()
        self._ready_since = {pod.uid: self._ready_since.get(pod.uid, now) for pod in fleet.pods if pod.ready}
        return {uid for uid, since in self._ready_since.items() if now - since >= fleet.min_ready}

    def _note_masters(self, fleet: Fleet) -> None:
        for label in fleet.roles:
            masters = fleet.masters(label)
            if len(masters) == 1 and self._moves.get(label, [])[-1:] != list(masters):
                self._moves.setdefault(label, []).append(masters[0])


def _left(fleet: Fleet) -> str:
    old = len(fleet.old)
    return f"{old} more {'pod is' if old == 1 else 'pods are'} as before" if old else "no other pod is left to replace"
