"""Build the image without a registry: ``python -m tools.image prepare`` once, then ``python -m tools.image build``.

The base is Debian with its own Python, made by debootstrap; the wheels come from pip's index, as those of the virtual
environment do. Base, wheels and layers stay in the cache folder. It needs root, buildah and debootstrap.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements.txt"
BASE = "localhost/carp-sidecar-base"
IMAGE = "localhost/carp-sidecar"
RELEASE, PYTHON = "bookworm", "3.11"
"""Debian's release, and the version of its Python."""
GLIBCS = ("2014", "_2_17", "_2_28", "_2_34")


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that all of it stays in."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(environ.get("HOME", "/")) / ".cache") / "carp-sidecar" / "image"


def wheels() -> Path:
    """Return the folder of the wheels that requirements.txt names."""
    return cache() / f"wheels-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"


def buildah(*arguments: str | Path) -> str:
    """Run buildah on the cache folder's images and return what it prints. Raises CalledProcessError."""
    store = cache() / "containers"
    options = ["--root", store, "--runroot", store / "run", "--storage-driver", "overlay"]
    command = ["buildah", *map(str, (*options, *arguments))]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def is_prepared() -> bool:
    """Say whether base and wheels are there."""
    return wheels().is_dir() and bool(buildah("images", "--quiet", "--filter", f"reference={BASE}"))


def prepare() -> None:
    """Make the base and get the wheels, where they are missing."""
    if not wheels().is_dir():
        _download(wheels())
    if not buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        sys.stderr.write(f"package tools: making a base image of Debian {RELEASE} in {cache()}, once: about a minute\n")
        container = buildah("from", "scratch")
        root = buildah("mount", container)
        packages = "--include=python3,python3-venv"
        command = ["debootstrap", "--variant=minbase", packages, RELEASE, root]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"package tools: debootstrap failed; its last lines:\n{done.stdout[-2000:]}")
        buildah("commit", "--quiet", "--rm", container, BASE)


def _download(folder: Path) -> None:
    sys.stderr.write(f"package tools: fetching the image's wheels into {folder}, once\n")
    scratch = folder.with_suffix(".part")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--only-binary=:all:", "--require-hashes", "--implementation", "cp", "--python-version", PYTHON]
    for glibc in GLIBCS:
        pip += ["--platform", f"manylinux{glibc}_{platform.machine()}"]
    subprocess.run([*pip, "-d", str(scratch), "-r", str(REQUIREMENTS)], check=True)
    scratch.rename(folder)


def build(*options: str) -> str:
    """Build the image by the Dockerfile and return its id, which is that of all its content."""
    folder = cache() / "image-id"
    arguments = {"PYTHON_IMAGE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    given = [each for name, value in arguments.items() for each in ("--build-arg", f"{name}={value}")]
    mount = f"{wheels()}:/wheels:ro"
    where = ("--isolation", "chroot", "--pull-never", "--timestamp", "0", "--volume", mount, "--iidfile", folder)
    buildah("build", "--quiet", "--layers", "--tag", IMAGE, *where, *given, *options, ROOT)
    return folder.read_text()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare"]:
            prepare()
        case ["build"]:
            prepare()
            sys.stdout.write(f"{build()}\n")
        case _:
            sys.exit("usage: python -m tools.image prepare|build")
