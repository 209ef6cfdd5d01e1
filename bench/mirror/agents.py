"""Agents: one in a process of its own, as the parent starts it, and crowds of them that share some."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

import msgspec

from sidecar.agent.kubernetes import KubernetesMirror
from sidecar.children import spawn
from sidecar.ipc.messages import GroupRole, MirroredGroup, Snapshot, StartAgent
from sidecar.ipc.plan import KubernetesPlan, MirrorPlan

_GROUP = MirroredGroup(name="default", interface="eth0", vhid=42, vips=("10.0.0.200/32",), mirror=MirrorPlan())

_APART = 0.1
"""Seconds between the starts of a crowd's agents: as many handshakes at once in one process would run out of time."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The pods whose agents a crowd's process runs."""

    namespace: str
    kubeconfig: str
    names: tuple[str, ...]


def node_of(pod: str) -> str:
    return f"node-of-{pod}"


def _plan(pod: str, namespace: str, kubeconfig: str) -> KubernetesPlan:
    """As by default."""
    return KubernetesPlan(
        pod_name=pod, pod_namespace=namespace, role_label="carp-role", kubeconfig=kubeconfig, events=True
    )


def _snapshot(role: str, reason: str, transitions: int) -> Snapshot:
    told = GroupRole(name="default", role=role, since=time.time(), reason=reason, transitions=transitions)
    return Snapshot(groups=(told,))


class Agent:
    """A real agent's process, told of roles as its parent would; a context manager. Start it from a lasting thread."""

    def __init__(self, pod: str, namespace: str, kubeconfig: str) -> None:
        self.pod = pod
        self._transitions = 0
        self._child = spawn("agent", ["warning", "text"], now=time.monotonic())
        plan = _plan(pod, namespace, kubeconfig)
        self._child.channel.send(StartAgent(node=node_of(pod), kubernetes=plan, groups=(_GROUP,)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.process.wait()
        self._child.channel.close()

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def pause(self) -> None:
        """Freeze it: a node that has died says nothing."""
        self._child.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw it."""
        self._child.process.send_signal(signal.SIGCONT)

    def is_now(self, role: str, reason: str) -> None:
        """Tell of a change of role."""
        self._transitions += 1
        self._child.channel.send(_snapshot(role, reason, self._transitions))


class Crowd:
    """Backups, several in a process; a context manager."""

    def __init__(self, pods: Sequence[str], namespace: str, kubeconfig: str, *, processes: int) -> None:
        shares = [tuple(pods[number::processes]) for number in range(processes)]
        self._jobs = [Job(namespace=namespace, kubeconfig=kubeconfig, names=share) for share in shares if share]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for job in self._jobs:
                process = subprocess.Popen([sys.executable, "-m", "bench.mirror.agents"], stdin=subprocess.PIPE)
                stack.callback(_end, process)
                assert process.stdin is not None
                process.stdin.write(msgspec.json.encode(job) + b"\n")
                process.stdin.flush()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


async def _run(job: Job) -> None:
    """Run a crowd's share until standard input ends, as it does when the parent does."""
    async with asyncio.TaskGroup() as tasks:
        running = []
        for name in job.names:
            mirror = KubernetesMirror(_plan(name, job.namespace, job.kubeconfig), node=node_of(name), groups=(_GROUP,))
            mirror.offer(_snapshot("backup", "start", 1))
            running.append(tasks.create_task(mirror.run()))
            await asyncio.sleep(_APART)
        await asyncio.to_thread(sys.stdin.buffer.read)
        for task in running:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(_run(msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)))
