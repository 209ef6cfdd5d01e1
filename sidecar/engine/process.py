"""The engine's process: rights dropped first, memory settled, then the loop."""

from __future__ import annotations

import gc
import signal
import socket

from sidecar import privileges
from sidecar.engine.loop import Engine
from sidecar.ipc.channel import Channel, ChannelClosedError
from sidecar.ipc.messages import Ready
from sidecar.observe import log


def main(*, fd: int, parent: int, node: str, level: str, style: str) -> int:
    """Run the engine over the inherited channel ``fd``; return the exit code."""
    privileges.drop(change_user=True)
    privileges.die_with_parent(parent)
    # The parent decides when to stop; a signal to the whole process group must not get ahead of it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    log.configure(level=level, style=style, process="engine")
    channel = Channel(socket.socket(fileno=fd))
    gc.collect()
    gc.freeze()  # what start-up made lives for ever; later collections need not walk it
    try:
        channel.send(Ready())
    except ChannelClosedError:
        return 1
    return Engine(channel, node=node).run()
