"""Plant each of the bugs in a copy of the tree, and see that the simulated LAN finds it.

``python -m tests.mutation.plant [words of a name]``
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutation.planted import BUGS
from tests.mutation.tree import PROTOCOL, copy_to, replace_once

FINDERS = (
    "tests/property/test_announcements.py",
    "tests/property/test_election.py",
    "tests/property/test_clocks.py",
    "tests/property/test_interrupted.py",
)


def main(names: list[str]) -> int:
    """Plant those whose name holds one of ``names``, or all; return 1 if one was not found."""
    missed = 0
    with tempfile.TemporaryDirectory(prefix="carp-planted-") as scratch:
        folder = Path(scratch) / "tree"
        copy_to(folder)
        if (broken := _finder(folder)) is not None:
            print(f"without any bug, {broken}")
            return 2
        for bug in BUGS:
            if names and not any(name in bug.name for name in names):
                continue
            copy_to(folder)
            replace_once(folder / PROTOCOL / bug.file, bug.old, bug.new)
            found = _finder(folder)
            missed += found is None
            print(f"{'NOT FOUND' if found is None else 'found':9}  {bug.name}  {found or ''}", flush=True)
    return 1 if missed else 0


def _finder(folder: Path) -> str | None:
    """Return the first test that fails in ``folder``, or None."""
    for finder in FINDERS:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", finder]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"HYPOTHESIS_PROFILE": "mutation"},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode not in {0, 1}:
            raise RuntimeError(done.stdout + done.stderr)
        if done.returncode:
            return next(line for line in done.stdout.splitlines() if line.startswith("FAILED")).split(" - ")[0]
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
