"""The agent's process: rights dropped, then an asyncio loop between the parent's channel, the reconciler and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

from sidecar import privileges
from sidecar.agent.health import Health, Result
from sidecar.agent.pods import Pods
from sidecar.agent.question import Engine
from sidecar.agent.state import MirrorStatus
from sidecar.ipc.channel import Channel, ChannelClosedError
from sidecar.ipc.messages import (
    Message,
    MessageError,
    Probed,
    Settings,
    SettingsStatus,
    Snapshot,
    StartAgent,
    StatusReply,
    StatusRequest,
    Stop,
    Unavailable,
    YieldLabels,
)
from sidecar.observe import log as observe_log

if TYPE_CHECKING:
    from sidecar.agent.probes import Kubernetes

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

    def ask(request: StatusRequest) -> None:
        with contextlib.suppress(BlockingIOError, ChannelClosedError):  # a question may be lost
            channel.send(request)

    engine = Engine(ask)
    async with contextlib.AsyncExitStack() as stack:
        mirror = None
        if start.kubernetes is not None:
            mirror = await stack.enter_async_context(_mirroring(start, channel, inbox))
        if start.health:
            await stack.enter_async_context(_probing(start, channel, inbox, mirror))
        if start.http_listen:
            await stack.enter_async_context(_listening(start, engine, mirror))
        return await _serve(inbox, engine, mirror)


class _Mirror(Protocol):
    """What writes the roles down where people see them."""

    status: MirrorStatus
    pods: Pods

    @property
    def facts(self) -> Kubernetes: ...

    @property
    def finished(self) -> bool: ...

    def offer(self, snapshot: Snapshot) -> None: ...

    def yield_labels(self, groups: Sequence[str]) -> None: ...

    def settings(self, status: SettingsStatus) -> None: ...

    def finish(self) -> None: ...


@contextlib.asynccontextmanager
async def _mirroring(start: StartAgent, channel: Channel, inbox: asyncio.Queue[object]) -> AsyncIterator[_Mirror]:
    """Mirror into Kubernetes; the inbox gets None when that has ended. Only here is its client loaded."""
    from sidecar.agent.kubernetes import KubernetesMirror  # noqa: PLC0415 - as above

    def say(message: Message) -> None:
        try:
            channel.send(message)
        except ChannelClosedError:
            pass  # the inbox tells
        except BlockingIOError:
            log.error("the parent does not read; this agent ends, and the next one says it again")  # noqa: TRY400
            inbox.put_nowait(None)

    assert start.kubernetes is not None  # noqa: S101 - narrowing
    mirror = KubernetesMirror(start.kubernetes, node=start.node, groups=start.groups, former=start.former, say=say)
    work = asyncio.create_task(mirror.run())
    work.add_done_callback(lambda _: inbox.put_nowait(None))
    try:
        yield mirror
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


@contextlib.asynccontextmanager
async def _probing(
    start: StartAgent, channel: Channel, inbox: asyncio.Queue[object], mirror: _Mirror | None
) -> AsyncIterator[None]:
    """Ask how the node is, and tell the parent whenever that changes; the inbox gets None should that have ended."""
    from sidecar.agent import probes  # noqa: PLC0415 - only where there are any

    health = Health(start.health, start.failing)

    def heard(number: int, result: Result) -> None:
        health.heard(number, result)
        news = health.news()
        if news is not None:
            with contextlib.suppress(BlockingIOError, ChannelClosedError):  # told with the next result
                channel.send(Probed(failing=news))
                health.told(news)

    work = asyncio.create_task(probes.run(start.health, heard, None if mirror is None else mirror.facts))
    work.add_done_callback(lambda _: inbox.put_nowait(None))
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


@contextlib.asynccontextmanager
async def _listening(start: StartAgent, engine: Engine, mirror: _Mirror | None) -> AsyncIterator[None]:
    """Serve HTTP."""
    from sidecar.agent.listener import Listener  # noqa: PLC0415 - aiohttp's server takes its memory where it is used
    from sidecar.agent.site import Site  # noqa: PLC0415 - as above

    site = Site(engine) if mirror is None else Site(engine, mirror=mirror.status, pods=mirror.pods)
    work = asyncio.create_task(Listener(start.http_listen, site, pod=start.pod).run())
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _serve(inbox: asyncio.Queue[object], engine: Engine, mirror: _Mirror | None) -> int:
    """Pass messages on until the mirror has finished or the parent is gone; return the exit code."""
    while (message := await inbox.get()) is not None:
        match message:
            case StatusReply() | Unavailable():
                engine.heard(message)
            case Snapshot() if mirror is not None:
                mirror.offer(message)
            case YieldLabels(groups=groups) if mirror is not None:
                mirror.yield_labels(groups)
            case Settings(status=status) if mirror is not None:
                mirror.settings(status)
            case Stop() if mirror is not None:
                mirror.finish()
            case Snapshot() | YieldLabels() | Settings():
                pass
            case Stop():
                return 0
            case _:
                log.error("the parent sent a %s, which is not for the agent", type(message).__name__)
    return 0 if mirror is not None and mirror.finished else 1


def _drain(channel: Channel, inbox: asyncio.Queue[object]) -> None:
    """Move every waiting message to the inbox; None stands for the end of the parent."""
    try:
        while (received := channel.receive()) is not None:
            inbox.put_nowait(received[0])
    except (ChannelClosedError, MessageError):
        asyncio.get_running_loop().remove_reader(channel.fileno())
        inbox.put_nowait(None)
