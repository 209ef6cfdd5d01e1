"""The agent's process: rights dropped, then an asyncio loop between the parent's channel and the reconciler."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket

from sidecar import privileges
from sidecar.agent.api import KubernetesPods
from sidecar.agent.reconciler import Reconciler
from sidecar.ipc.channel import Channel, ChannelClosedError
from sidecar.ipc.messages import MessageError, Snapshot, StartAgent, Stop
from sidecar.observe import log as observe_log

log = logging.getLogger(__name__)


def main(*, fd: int, parent: int, level: str, style: str) -> int:
    """Run the agent over the inherited channel ``fd``; return the exit code."""
    # The uid stays: the token or kubeconfig belongs to the container's user, and is read again when it changes.
    privileges.drop(change_user=False)
    privileges.die_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    observe_log.configure(level=level, style=style, process="agent")
    channel = Channel(socket.socket(fileno=fd))
    return asyncio.run(_run(channel))


async def _run(channel: Channel) -> int:
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[object] = asyncio.Queue()
    loop.add_reader(channel.fileno(), _drain, channel, inbox)
    start = await inbox.get()
    if not isinstance(start, StartAgent):
        log.error("the parent began with a %s", type(start).__name__)
        return 1
    connections: list[KubernetesPods] = []

    async def connect() -> KubernetesPods:
        connections.append(await KubernetesPods.connect(start.kubernetes))
        return connections[-1]

    reconciler = Reconciler(
        connect=connect,
        pod_name=start.kubernetes.pod_name,
        role_label=start.kubernetes.role_label,
        groups=start.groups,
        jitter=random.random,
    )
    work = asyncio.create_task(reconciler.run())
    work.add_done_callback(lambda _: inbox.put_nowait(None))
    try:
        await _serve(inbox, reconciler)
        return 0 if work.done() and work.result() is None else 1
    finally:
        work.cancel()
        for connection in connections:
            await connection.close()


async def _serve(inbox: asyncio.Queue[object], reconciler: Reconciler) -> None:
    """Pass messages on until the reconciler has finished or the parent is gone."""
    while (message := await inbox.get()) is not None:
        match message:
            case Snapshot():
                reconciler.offer(message)
            case Stop():
                reconciler.finish()
            case _:
                log.error("the parent sent a %s, which is not for the agent", type(message).__name__)


def _drain(channel: Channel, inbox: asyncio.Queue[object]) -> None:
    """Move every waiting message to the inbox; None stands for the end of the parent."""
    try:
        while (received := channel.receive()) is not None:
            inbox.put_nowait(received[0])
    except (ChannelClosedError, MessageError):
        asyncio.get_running_loop().remove_reader(channel.fileno())
        inbox.put_nowait(None)
