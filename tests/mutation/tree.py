"""Copies of the tree in which things may be broken."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOCOL = Path("sidecar/protocol")
PARTS = (
    "sidecar",
    "tests",
    "tools",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs",
)


def copy_to(folder: Path) -> None:
    """Copy what the tests need into ``folder``, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)


def replace_once(path: Path, old: str, new: str) -> None:
    """Put ``new`` in the place of ``old``. Raises ValueError if that is not in exactly one place."""
    text = path.read_text()
    if text.count(old) != 1:
        raise ValueError(f"{path.name} has {text.count(old)} times what is to be replaced: {old!r}")
    path.write_text(text.replace(old, new))
