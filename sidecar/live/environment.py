"""The settings' part of the environment, kept for later trials in a sealed memory file and nowhere else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def seal(environ: Mapping[str, str]) -> int:
    """Return a descriptor that a later program can read ``environ`` from, and nobody write to."""
    fd = os.memfd_create("settings", os.MFD_ALLOW_SEALING)
    content = b"\0".join(os.fsencode(f"{name}={value}") for name, value in environ.items())
    written = 0
    while written < len(content):
        written += os.write(fd, content[written:])
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def unseal(fd: int) -> dict[str, str]:
    """Return what was sealed, however often; the descriptor stays open."""
    content = os.pread(fd, os.fstat(fd).st_size, 0)
    pairs = (each.partition("=") for each in os.fsdecode(content).split("\0") if each)
    return {name: value for name, _, value in pairs}
