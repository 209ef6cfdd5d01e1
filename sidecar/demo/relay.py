"""Lets clients inside a network namespace reach a server on this side: a TCP relay, one connection to one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CLONE_NEWNET = 0x40000000
_CHUNK = 64 * 1024


def listen_in(namespace: Path, address: str, port: int = 0) -> socket.socket:
    """Return a listening TCP socket that lives in ``namespace`` (``/run/netns/NAME`` or ``/proc/PID/ns/net``).

    A thread of its own enters the namespace and ends there, so that nothing else leaves ours. Raises OSError without
    CAP_SYS_ADMIN, or where the address isn't there.
    """

    def listen() -> socket.socket:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:  # os.setns is of 3.12
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), str(namespace))
        finally:
            os.close(descriptor)
        return socket.create_server((address, port))

    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(listen).result()


class Relay:
    """Passes every connection to ``listener`` on to ``target``. A context manager; leaving it ends all connections.

    Where the target refuses, the client sees its connection closed.
    """

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closing = True
            for end in (self._listener, *self._open):
                _shut(end)
        while self._threads:
            self._threads.pop().join()
        self._listener.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # __exit__ shut it
                return
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            with self._lock:
                if self._closing:
                    return
                self._open |= {client, server}
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()
            with self._lock:
                self._open -= {client, server}


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until one side ends, then end both: HTTP has no use for half a connection."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    _shut(source)
    _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
