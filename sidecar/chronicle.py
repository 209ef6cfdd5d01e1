"""What the parent remembers of the groups, so that an engine which starts anew knows of it: changes of role, and seals.

It learns of the changes by the snapshots that pass through it (decision 1), and of the engine's own end by itself.
"""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from sidecar.ipc.messages import CHANGES_REMEMBERED, GroupRole, Snapshot, TransitionStatus
from sidecar.protocol.types import Role

ENGINE_DIED = "engine-died"
"""A reason that no machine gives: whoever could have given one is gone."""


class Chronicle:
    """The last changes of each group, the oldest first."""

    def __init__(self) -> None:
        self._last: dict[str, GroupRole] = {}
        self._changes: dict[str, deque[TransitionStatus]] = {}
        self._seal_offsets: dict[str, float] = {}

    def of(self, group: str) -> tuple[TransitionStatus, ...]:
        """Return what is remembered of a group."""
        return tuple(self._changes.get(group, ()))

    def heard(self, snapshot: Snapshot) -> None:
        """Note what a snapshot has of news; one of a new engine tells of the groups one after the other."""
        for role in snapshot.groups:
            before, self._last[role.name] = self._last.get(role.name), role
            known = before is not None and (before.since, before.transitions) == (role.since, role.transitions)
            if role.transitions and not known:
                self._note(role, before=Role.INIT.value if before is None else before.role)

    def sealed(self, group: str, offset: float | None) -> None:
        """Note how far the seals of a group's adverts are ahead of CLOCK_BOOTTIME, in seconds (see Bind)."""
        if offset is not None:
            self._seal_offsets[group] = offset

    def seal_offset(self, group: str) -> float | None:
        """Return how far they are, None where there were none."""
        return self._seal_offsets.get(group)

    def engine_ended(self, why: str, *, now: float) -> None:
        """Note that nobody plays the roles any more; ``now`` is in Unix seconds."""
        for name, role in self._last.items():
            if role.role != Role.INIT:
                gone = replace(role, role=Role.INIT.value, since=now, transitions=0, reason=ENGINE_DIED, detail=why)
                self._last[name] = gone
                self._note(gone, before=role.role)

    def forget(self, group: str) -> None:
        """Forget a group that has ended."""
        self._last.pop(group, None)
        self._changes.pop(group, None)
        self._seal_offsets.pop(group, None)

    def _note(self, role: GroupRole, *, before: str) -> None:
        changes = self._changes.setdefault(role.name, deque(maxlen=CHANGES_REMEMBERED))
        changes.append(
            TransitionStatus(at=role.since, before=before, after=role.role, reason=role.reason, detail=role.detail)
        )
