"""How long to wait before asking an API server again that did not do what it was asked. Pure: no clock."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.agent.errors import ApiError

FIRST_DELAY = 0.1
LONGEST_DELAY = 1.0
"""Seconds between attempts while no answer comes: short, since labels follow within 2 s of the server's return."""
REFUSED_DELAY = 15.0
"""Seconds between attempts once the server has refused us (401, 403, 404) for a while: only a person can help then."""
PATIENT_REFUSALS = 10
"""Refusals in a row before that: a server that has just started refuses everybody until it has read its rules."""
LONGEST_RETRY_AFTER = 60.0
"""Seconds of a Retry-After that are believed."""

_REFUSALS = frozenset({401, 403, 404})


class Backoff:
    """The delays of one who tries again and again: doubled from the first to the longest, and half of it at random."""

    def __init__(self, jitter: Callable[[], float], *, longest: float = LONGEST_DELAY) -> None:
        """``jitter`` returns 0..1."""
        self._jitter = jitter
        self._longest = longest
        self._delay = 0.0
        self._refusals = 0

    def after(self, error: ApiError | None) -> float:
        """Return the seconds to wait after a failure, at least what the server asked for; None: it ended too soon."""
        status = None if error is None else error.status
        self._refusals = self._refusals + 1 if status in _REFUSALS else 0
        longest = REFUSED_DELAY if self._refusals > PATIENT_REFUSALS else self._longest
        self._delay = min(longest, self._delay * 2) if self._delay else FIRST_DELAY
        asked_for = min(error.retry_after, LONGEST_RETRY_AFTER) if error is not None else 0.0
        return asked_for + self._delay * (0.5 + self._jitter() / 2)

    def settle(self) -> None:
        """Begin anew: it worked."""
        self._delay = 0.0
        self._refusals = 0
