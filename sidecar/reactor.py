"""The parent's turn: descriptors with whoever serves them, and signals, which arrive through a descriptor too."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Iterable


class Reactor:
    """``watch`` descriptors, then ``turn`` again and again."""

    __slots__ = ("_handlers", "_poll", "_wakeup")

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._wakeup: tuple[socket.socket, socket.socket] | None = None

    def watch(self, fd: int, handler: Callable[[], object]) -> None:
        """Have ``handler`` called whenever ``fd`` is readable or hung up."""
        self._handlers[fd] = handler
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, which may be closed or never have been watched."""
        if self._handlers.pop(fd, None) is not None and fd >= 0:
            try:
                self._poll.unregister(fd)
            except (OSError, ValueError):
                return  # closed already: epoll forgot it by itself

    def turn(self, timeout: float | None) -> None:
        """Wait up to ``timeout`` seconds (None: for ever) and serve what is there."""
        for fd, _ in self._poll.poll(timeout):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler()

    def watch_signals(self, numbers: Iterable[int], handler: Callable[[int], None]) -> None:
        """Have ``handler`` called with each signal of ``numbers`` in a turn, never between two instructions."""
        reader, writer = self._wakeup = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _woken)

        def serve() -> None:
            for number in reader.recv(4096):
                handler(number)

        self.watch(reader.fileno(), serve)


def _woken(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor carries the signal into the loop."""
