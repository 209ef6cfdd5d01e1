"""What tells two states of a file apart. Pure but for the look at the file."""

from __future__ import annotations

import os
from pathlib import Path


def stamp(path: str) -> str:
    """Return a word for the file's present state, "" where there is none. Links count by where they lead to."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return ""
    place = ascii(os.path.realpath(path))
    return f"{place} {found.st_dev} {found.st_ino} {found.st_mtime_ns} {found.st_size} {found.st_mode:o}"
