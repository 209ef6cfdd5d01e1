"""What the judge of changed settings says."""

from __future__ import annotations

import msgspec

from sidecar.ipc.plan import Plan


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan and its warnings, or None and a line for each mistake. ``files`` are as in ``Plan``."""

    plan: Plan | None
    files: dict[str, str]
    lines: tuple[str, ...]


def encode_verdict(verdict: Verdict) -> bytes:
    """Return the verdict as one JSON document."""
    return msgspec.json.encode(verdict)


def decode_verdict(document: bytes) -> Verdict | None:
    """Read it back; None: it is none."""
    try:
        return msgspec.json.decode(document, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
