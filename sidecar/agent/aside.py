"""What a rollout asks of this node by an annotation of its pod: to let others go first where it is a backup.

The VIPs of a pod that is about to be replaced are to go to a node that has its new pod, so the others stand aside: they
are demoted in those groups. The engine sees to it that a master is not, so nobody takes a VIP away by this; and it is
over by itself, which the parent sees to where the agent does not, so a rollout that dies leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

from sidecar.agent.api import PodApi
from sidecar.agent.context import Context
from sidecar.agent.desired import PREFIX, Metadata, Pod
from sidecar.agent.retry import Loop
from sidecar.ipc.messages import StandAside

ASKED = f"{PREFIX}stand-aside"
"""``POD QUESTION: LABEL,LABEL``: while that pod goes, in the groups with these labels."""
ANSWERED = f"{PREFIX}stands-aside"
"""The same text, once it is obeyed."""
FOR = 120.0
"""Seconds: the pod has a few to be asked, and 30 to end."""


class Aside:
    """What one node makes of it. ``groups`` are by label; ``say`` is called whenever what is asked for changes."""

    def __init__(self, groups: Mapping[str, str], say: Callable[[StandAside], None]) -> None:
        self._groups = groups
        self._say = say
        self._asked = ""
        self._until = -math.inf
        self._said: StandAside | None = None

    def heard(self, asked: str, now: float, *, answered: str = "") -> bool:
        """Take what the annotations say; tell whether that is news, which stands for ``FOR`` seconds.

        What is answered at first was obeyed by an earlier agent, nobody knows since when: it is over.
        """
        news = asked != self._asked
        if news:
            over = not asked or (self._said is None and answered == asked)
            self._asked, self._until = asked, -math.inf if over else now + FOR
        labels = self._asked.partition(": ")[2].split(",") if now < self._until else ()
        groups = {self._groups[label] for label in labels if label in self._groups}
        says = StandAside(groups=tuple(sorted(groups)), word=asked)
        if says != self._said:
            self._said = says
            self._say(says)
        return news

    def answer(self, now: float) -> Metadata:
        """Return what the pod should say: that it is obeyed, or nothing of it any more."""
        if now < self._until:
            return Metadata(labels={}, annotations={ANSWERED: self._asked})
        return Metadata(labels={}, annotations={ASKED: None, ANSWERED: None})


class StandingAside:
    """Obeys at once, and answers in a loop of its own: an answer that is refused holds up neither that nor a role.

    ``own`` is the sidecar's pod as it is known, None while it is not; ``know`` takes how it is after the answer.
    """

    def __init__(
        self, api: PodApi, context: Context, aside: Aside, *, own: Callable[[], Pod | None], know: Callable[[Pod], None]
    ) -> None:
        self._api = api
        self._aside = aside
        self._own = own
        self._know = know
        self._loop = Loop(
            self._answer, failed=lambda error: context.complaints.note("stand-aside", error), jitter=context.jitter
        )

    def look(self) -> None:
        """Take what the pod says now."""
        pod, loop = self._own(), asyncio.get_running_loop()
        if pod is None:
            return
        asked, answered = (pod.annotations.get(each, "") for each in (ASKED, ANSWERED))
        if self._aside.heard(asked, loop.time(), answered=answered):
            loop.call_later(FOR, self.look)
        self._loop.wake()

    async def run(self) -> None:
        """Answer until cancelled."""
        await self._loop.run()

    async def _answer(self) -> None:
        pod = self._own()
        missing = None if pod is None else self._aside.answer(asyncio.get_running_loop().time()).missing_from(pod)
        if pod is not None and missing is not None:
            self._know(await self._api.patch(pod, missing))
