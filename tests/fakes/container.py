"""A container as a kubelet's runtime makes it, by runc: the image's own files, read-only, with the chart's rights.

Two capabilities, no_new_privs, the seccomp profile that the container tools ship, a network namespace that is given.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.demo.lan import NETNS, Node
from tools import image

SECCOMP = Path("/usr/share/containers/seccomp.json")
CAPABILITIES = ("CAP_NET_ADMIN", "CAP_NET_RAW")
ARCHITECTURE = "amd64"


@dataclass(frozen=True, slots=True)
class Image:
    """The image's file system and what it says of how it is run."""

    root: Path
    config: Mapping[str, Any]

    def environment(self, more: Mapping[str, str]) -> list[str]:
        return [*self.config["Env"], *(f"{name}={value}" for name, value in more.items())]


@contextlib.contextmanager
def mounted(name: str) -> Iterator[Image]:
    """The image's root, for as long as it takes."""
    container = image.buildah("from", "--pull-never", name)
    try:
        root = Path(image.buildah("mount", container))
        described = json.loads(image.buildah("inspect", "--type", "image", name))
        yield Image(root, described["OCIv1"]["config"])
    finally:
        image.buildah("rm", container)


@dataclass(frozen=True, slots=True)
class Container:
    """One that runs. ``run`` is `kubectl exec`."""

    identity: str
    state: Path
    process: subprocess.Popen[str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        argv = [*_runc(self.state), "exec", self.identity, *command]
        return subprocess.run(argv, check=False, capture_output=True, text=True)


@contextlib.contextmanager
def running(
    an_image: Image, node: Node, bundle: Path, *, environment: Mapping[str, str], mounts: Mapping[str, Path]
) -> Iterator[Container]:
    """The image's own command on ``node``, until the end of ``with``; what it says goes to ``bundle``/log."""
    identity, state = f"carp-{secrets.token_hex(4)}", bundle / "state"
    (bundle / "config.json").write_text(json.dumps(spec(an_image, node, environment=environment, mounts=mounts)))
    argv = [*_runc(state), "run", "--bundle", str(bundle), identity]
    with (bundle / "log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log, text=True) as process:
        try:
            yield Container(identity, state, process)
        finally:
            subprocess.run([*_runc(state), "kill", identity, "TERM"], check=False, capture_output=True)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                subprocess.run([*_runc(state), "delete", "--force", identity], check=False, capture_output=True)


def _runc(state: Path) -> Sequence[str]:
    return ("runc", "--root", str(state))


def spec(an_image: Image, node: Node, *, environment: Mapping[str, str], mounts: Mapping[str, Path]) -> dict[str, Any]:
    """Return the runtime's specification of the container."""
    user = an_image.config.get("User", "0:0")
    uid, _, gid = user.partition(":")
    nothing = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(an_image.root), "readonly": True},
        "process": {
            "user": {"uid": int(uid), "gid": int(gid or 0)},
            "args": [*an_image.config["Entrypoint"], *an_image.config["Cmd"]],
            "env": an_image.environment(environment),
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro", *nothing]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": nothing},
            *(
                {"destination": inside, "type": "bind", "source": str(path), "options": ["rbind", "ro"]}
                for inside, path in mounts.items()
            ),
        ],
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                {"type": "network", "path": str(NETNS / node.netns)},
            ],
            "seccomp": seccomp(CAPABILITIES),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def seccomp(capabilities: Sequence[str]) -> dict[str, Any]:
    """Return the profile that the container tools ship, for a container with these capabilities."""
    profile = json.loads(SECCOMP.read_text())
    calls = []
    for each in profile["syscalls"]:
        includes, excludes = each.get("includes") or {}, each.get("excludes") or {}
        if not set(includes.get("caps", ())) <= set(capabilities):
            continue
        if ARCHITECTURE not in includes.get("arches", (ARCHITECTURE,)) or ARCHITECTURE in excludes.get("arches", ()):
            continue
        if set(excludes.get("caps", ())) & set(capabilities):
            continue
        calls.append({key: each[key] for key in ("names", "action", "errnoRet", "args") if each.get(key) is not None})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": calls,
    }
