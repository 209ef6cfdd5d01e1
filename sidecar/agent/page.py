"""The status page: one file, read once, with a policy that lets nothing run but what is in it."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources

_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


@functools.cache
def page() -> bytes:
    """Return the page."""
    return resources.files("sidecar.agent").joinpath("page.html").read_bytes()


@functools.cache
def policy() -> str:
    """Return its Content-Security-Policy: its own script and its own style by their hashes, and nothing else."""
    return _POLICY.format(script=_hash(b"script"), style=_hash(b"style"))


def _hash(tag: bytes) -> str:
    (content,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page(), re.S)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
