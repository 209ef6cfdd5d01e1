"""Says what is wrong between the mirror and the API server: once per state, not once per attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sidecar.agent.errors import ApiError
from sidecar.agent.state import ApiState, MirrorStatus, state_of

log = logging.getLogger(__name__)

_CONFLICT = 409
_WORST_FIRST = (ApiState.UNREACHABLE, ApiState.FAILING, ApiState.THROTTLED, ApiState.REFUSED)


class Complaints:
    """What each part of the mirror is held up by. ``wall`` returns Unix seconds."""

    def __init__(self, status: MirrorStatus, wall: Callable[[], float]) -> None:
        self._status = status
        self._wall = wall
        self._standing: dict[str, tuple[object, ApiError]] = {}

    def note(self, about: str, error: ApiError | None) -> None:
        """Take what a part of the mirror was told; None: it got what it wanted. Conflicts are no fault."""
        if error is not None and error.status == _CONFLICT:
            return
        before = self._standing.pop(about, None)
        if error is not None:
            self._complain(about, error, before)
        elif before is not None and not self._standing:
            log.info("Kubernetes is told of everything again")
        self._sum_up()

    def _complain(self, about: str, error: ApiError, before: tuple[object, ApiError] | None) -> None:
        state = (error.right and str(error)) or error.status or "no answer"  # a right is one of a namespace
        known = {each for each, _ in self._standing.values()} | {None if before is None else before[0]}
        if state not in known:
            log.warning("%s; the VIP does not depend on it, Kubernetes is told later", error)
        self._standing[about] = state, error
        self._status.last_error, self._status.last_error_at = str(error), self._wall()

    def _sum_up(self) -> None:
        errors = [error for _, error in self._standing.values()]
        states = {state_of(error.status) for error in errors}
        self._status.api = next((state for state in _WORST_FIRST if state in states), ApiState.OK)
        self._status.missing_rights = {error.right for error in errors if error.right}
