"""Letting go of the VIPs in the order that users expect: the label first, so that nobody is sent to a node that goes.

The label is waited for, but never for long: an API server that is away keeps no node from handing over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from sidecar.elector import Elector
from sidecar.ipc.messages import Drained, HandOver, Message, Snapshot
from sidecar.ipc.plan import GroupPlan
from sidecar.mirror import Mirror
from sidecar.protocol import timing
from sidecar.protocol.types import Role

LABELLED_WITHIN = 1.0
"""Seconds that the agent has to say that this node is not master any more."""


class Draining:
    """``label_first`` is for whoever hands over by himself; ``begin`` does all of it, and ``tell`` gets the outcome.

    ``tell`` takes a client's descriptor. Groups are those that this node is master of. Times are monotonic seconds.
    """

    def __init__(
        self,
        elector: Elector,
        mirror: Mirror,
        tell: Callable[[int, Message], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._elector = elector
        self._mirror = mirror
        self._tell = tell
        self._clock = clock
        self._then: list[Callable[[], None]] = []
        """What waits for the labels."""
        self._labelled_by = math.inf
        self._clients: list[int] = []
        self._groups: tuple[GroupPlan, ...] = ()
        self._left: set[str] = set()
        self._taken: dict[str, str] = {}
        self._over_by = math.inf

    # The label ---------------------------------------------------------------------------------------------------

    def label_first(self, groups: Sequence[GroupPlan], then: Callable[[], None]) -> None:
        """Have the pods not say master of these groups any more, and call ``then``: at once where nobody can do it."""
        self._then.append(then)
        if groups and self._mirror.yield_labels(tuple(group.name for group in groups)):
            self._labelled_by = min(self._labelled_by, self._clock() + LABELLED_WITHIN)
        else:
            self.labelled()

    def labelled(self) -> None:
        """Note that the pods say so, or never will."""
        self._labelled_by = math.inf
        waiting, self._then = self._then, []
        for then in waiting:
            then()

    # The whole of it ---------------------------------------------------------------------------------------------

    def begin(self, client: int, groups: Sequence[GroupPlan]) -> None:
        """Hand these groups over to whoever stands up; who asks meanwhile is told the same."""
        self._clients.append(client)
        if len(self._clients) > 1:
            return
        self._groups, self._left, self._taken = tuple(groups), {group.name for group in groups}, {}
        if self._left:
            self.label_first(self._groups, self._hand_over)
        else:
            self._finish()

    def _hand_over(self) -> None:
        waits = (timing.succession(advbase=group.advbase, advskew=group.advskew) for group in self._groups)
        self._over_by = self._clock() + max(waits)
        self._elector.tell(HandOver())

    def saw(self, snapshot: Snapshot) -> None:
        """Take the newest roles."""
        if self._over_by == math.inf:
            return
        for role in snapshot.groups:
            if role.name in self._left and role.role != Role.MASTER:
                self._left.discard(role.name)
                self._taken[role.name] = role.detail
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        self._over_by = math.inf
        if self._groups and not self._then:
            self._mirror.yield_labels(())  # where nobody has taken over, they say master again
        clients, self._clients = self._clients, []
        for client in clients:
            self._tell(client, Drained(taken=self._taken, left=tuple(sorted(self._left))))

    # Time --------------------------------------------------------------------------------------------------------

    def next(self) -> float:
        """Return when ``tick`` is due, infinity if it is not."""
        return min(self._labelled_by, self._over_by)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._labelled_by:
            self.labelled()
        if now >= self._over_by:
            self._finish()
