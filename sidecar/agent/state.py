"""How the mirror stands, for whoever wants to show it: metrics, the status page, `carp-sidecar status`."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from sidecar.observe.moment import rfc3339


class ApiState(enum.StrEnum):
    """What the last call to the API server came to."""

    UNKNOWN = "unknown"
    """None was made yet."""
    OK = "ok"
    UNREACHABLE = "unreachable"
    """No answer, or none that can be read."""
    REFUSED = "refused"
    """401, 403, 404: only a person can help."""
    THROTTLED = "throttled"
    """429."""
    FAILING = "failing"
    """Any other error."""


def state_of(status: int | None) -> ApiState:
    """Return the state that a failed call with this HTTP status stands for; 409 is none."""
    match status:
        case None:
            return ApiState.UNREACHABLE
        case 401 | 403 | 404:
            return ApiState.REFUSED
        case 429:
            return ApiState.THROTTLED
        case _:
            return ApiState.FAILING


@dataclass(slots=True)
class MirrorStatus:
    """Written by the mirror, read by anybody in the same loop. Times are Unix seconds."""

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By RBAC verb, resource and HTTP status ("" where no answer came)."""
    api: ApiState = ApiState.UNKNOWN
    last_error: str = ""
    last_error_at: float | None = None
    pending_since: float | None = None
    """Since when Kubernetes has not been told of the newest roles; None: it has."""
    last_lag: float | None = None
    """Seconds that the last change of roles took to be written."""
    missing_rights: set[str] = field(default_factory=set)
    """Verb and resource, such as "patch pods/status"."""
    events_dropped: int = 0
    """Events that nobody was told, since there were too many."""
    annotation_refused: str = ""
    """Why an annotation of this node is not obeyed; "": there is none such."""

    def lag(self, now: float) -> float:
        """Return the seconds that Kubernetes is behind at ``now``, 0 where it says what the network does."""
        return 0.0 if self.pending_since is None else max(0.0, now - self.pending_since)

    def document(self, now: float) -> dict[str, object]:
        """Return it for JSON; times are RFC 3339, the lag in seconds at ``now``."""
        return {
            "api": self.api.value,
            "lag_seconds": self.lag(now),
            "last_lag_seconds": self.last_lag,
            "pending": self.pending_since is not None,
            "last_error": self.last_error,
            "last_error_at": None if self.last_error_at is None else rfc3339(self.last_error_at),
            "missing_rights": sorted(self.missing_rights),
            "events_dropped": self.events_dropped,
            "annotation_refused": self.annotation_refused,
            "requests": [
                {"verb": verb, "resource": resource, "code": code, "count": count}
                for (verb, resource, code), count in sorted(self.requests.items())
            ],
        }

    def answered(self, verb: str, resource: str, status: int) -> None:
        """Count an answer."""
        self.requests[verb, resource, str(status)] += 1

    def failed(self, verb: str, resource: str) -> None:
        """Count a call without an answer."""
        self.requests[verb, resource, ""] += 1
