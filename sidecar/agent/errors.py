"""What can go wrong with a call to the Kubernetes API, in words that say what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

_PASSING = frozenset({HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})


class ApiError(Exception):
    """A call failed. ``status`` is the HTTP status, or None if no answer came that could be read.

    ``retry_after`` are the seconds that the server asks us to stay away; ``right`` is the verb and resource that a 403
    is about, "" otherwise.
    """

    def __init__(self, message: str, status: int | None = None, *, retry_after: float = 0.0, right: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.right = right

    @property
    def passes(self) -> bool:
        """Tell whether the same call may well work a moment later, without anybody's doing."""
        return self.status is None or self.status in _PASSING or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class _Status(msgspec.Struct):
    message: str = ""


_CANNOT = re.compile(r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[a-z/]+)"')
_SAID_AT_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for: RBAC's verb and resource, and the object's name for people; ``namespace`` "" for none."""

    right: str
    what: str
    namespace: str


def refusal(status: int, body: bytes, asked: Asked, *, retry_after: str = "") -> ApiError:
    """Return what an answer of 300 and more means; ``retry_after`` is the header."""
    right = asked.right
    try:
        said = msgspec.json.decode(body, type=_Status).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = ""
    match status:
        case 401:
            message = "the API server does not accept the token (401); is the service account still there?"
        case 403:
            if found := _CANNOT.search(said):  # an apply that creates wants the right to create, too
                right = f"{found['verb']} {found['resource']}"
            where, role = f" in namespace {asked.namespace}", "Role that the chart ships"
            if not asked.namespace:
                where, role = "", "ClusterRole with it that the chart ships (docs/maintenance.md)"
            message = f"the right to {right}{where} is missing (403); bind the {role} to this pod's service account"
        case 404:
            message = f"{asked.what} is not there (404)"
        case _:
            message = f"the API server answers {status}{': ' if said else ''}{said[:_SAID_AT_MOST]}"
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    return ApiError(message, status, retry_after=seconds, right=right if status == 403 else "")
