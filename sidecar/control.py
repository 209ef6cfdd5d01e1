"""The control socket in the runtime directory.

``status`` asks, the engine answers, the parent stands between; the other commands are for the parent itself.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from sidecar.ipc.channel import Channel, ChannelClosedError
from sidecar.ipc.messages import (
    Done,
    Drain,
    Drained,
    Maintain,
    Message,
    MessageError,
    StatusReply,
    StatusRequest,
    Unavailable,
)
from sidecar.reactor import Reactor

SOCKET_NAME = "control.sock"
_CLIENTS_AT_MOST = 16
_ANSWER_WITHIN = 5.0

M = TypeVar("M", bound=Message)


class ControlError(Exception):
    """The control socket can't be used; the message says why and what to do."""


class InUseError(ControlError):
    """Another sidecar listens at the control socket."""


class ControlServer:
    """The listening end. ``accept`` and ``receive`` never block."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SOCKET_NAME
        self._listener: socket.socket | None = None
        self.clients: dict[int, Channel] = {}
        self._next_token = 0
        self._waiting: dict[int, Channel] = {}

    def open(self) -> socket.socket:
        """Create the directory (mode 0700) and the socket (0600). Raises ControlError."""
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ControlError(f"cannot create {directory}: {error.strerror}") from error
        if _somebody_listens(self._path):
            raise InUseError(f"another carp-sidecar runs with the runtime directory {directory}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(_CLIENTS_AT_MOST)
        except OSError as error:
            listener.close()
            raise ControlError(f"cannot listen on {self._path}: {error.strerror or error}") from error
        listener.setblocking(False)
        self._listener = listener
        return listener

    def serve(self, reactor: Reactor, obey: Callable[[int, StatusRequest | Maintain | Drain], None]) -> None:
        """Have ``obey`` called with each client's descriptor and what it wants; ``open`` came first."""
        assert self._listener is not None  # noqa: S101 - narrowing

        def speaks(fd: int) -> None:
            request = self.request(fd) if fd in self.clients else None
            if request is not None:
                obey(fd, request)
            if fd not in self.clients:
                reactor.unwatch(fd)

        def connects() -> None:
            client = self.accept()
            if client is not None:
                reactor.watch(client.fileno(), partial(speaks, client.fileno()))

        reactor.watch(self._listener.fileno(), connects)

    def accept(self) -> Channel | None:
        """Return a new client, or None if there is none, or one too many."""
        assert self._listener is not None  # noqa: S101 - narrowing; open() came first
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return None
        if len(self.clients) >= _CLIENTS_AT_MOST:
            sock.close()
            return None
        channel = Channel(sock)
        self.clients[channel.fileno()] = channel
        return channel

    def request(self, fd: int) -> StatusRequest | Maintain | Drain | None:
        """Return what client ``fd`` wants, a question with a token of ours; None if it left or spoke nonsense."""
        channel = self.clients[fd]
        try:
            received = channel.receive()
        except (ChannelClosedError, MessageError, OSError):
            self.drop(fd)
            return None
        if received is None:
            return None
        message, fds = received
        for stray in fds:
            socket.close(stray)
        if isinstance(message, Maintain | Drain):
            return message
        if not isinstance(message, StatusRequest):
            self.drop(fd)
            return None
        self._next_token += 1
        self._waiting[self._next_token] = channel
        return StatusRequest(token=self._next_token, first=message.first)

    def answer(self, reply: StatusReply) -> None:
        """Pass the engine's answer on to whoever asked."""
        channel = self._waiting.get(reply.token)
        if channel is None:
            return
        try:
            channel.send(reply)
        except MessageError as error:
            self.refuse(reply.token, str(error))
        except (ChannelClosedError, BlockingIOError, OSError):
            self.drop(channel.fileno())
        self._waiting.pop(reply.token, None)

    def tell(self, fd: int, message: Message) -> None:
        """Say something to client ``fd``, if it is still there; one that does not listen is dropped."""
        if fd not in self.clients:
            return
        try:
            self.clients[fd].send(message)
        except (ChannelClosedError, BlockingIOError, OSError):
            self.drop(fd)

    def refuse(self, token: int, why: str) -> None:
        """Tell whoever asked that there is no answer, and let it go."""
        channel = self._waiting.get(token)
        if channel is None:
            return
        with contextlib.suppress(ChannelClosedError, OSError):
            channel.send(Unavailable(why=why))
        self.drop(channel.fileno())

    def drop(self, fd: int) -> None:
        """Forget a client."""
        channel = self.clients.pop(fd, None)
        if channel is not None:
            self._waiting = {token: c for token, c in self._waiting.items() if c is not channel}
            channel.close()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        for fd in list(self.clients):
            self.drop(fd)
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def ask_status(directory: Path) -> StatusReply:
    """Ask the running sidecar how it stands. Raises ControlError."""
    path = directory / SOCKET_NAME
    with _connected(path) as channel:
        return every_page(
            lambda first: _converse(channel, StatusRequest(token=0, first=first), wanted=StatusReply, path=path)
        )


def every_page(ask: Callable[[int], StatusReply]) -> StatusReply:
    """Return the whole status, whose pages ``ask`` gets by the number of their first group."""
    reply = ask(0)
    groups = list(reply.groups)
    while reply.more is not None:
        reply = ask(reply.more)
        groups += reply.groups
    return msgspec.structs.replace(reply, groups=tuple(groups))


def ask_maintenance(directory: Path, *, reason: str | None) -> str:
    """Have the running sidecar begin maintenance, or end it (None); return what it says. Raises ControlError."""
    path = directory / SOCKET_NAME
    with _connected(path) as channel:
        return _converse(channel, Maintain(reason=reason), wanted=Done, path=path).text


def ask_drain(directory: Path) -> Drained:
    """Have the running sidecar hand over every group; return what came of it. Raises ControlError."""
    path = directory / SOCKET_NAME
    with _connected(path) as channel:
        return _converse(channel, Drain(), wanted=Drained, path=path)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[Channel]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.connect(str(path))
        except OSError as error:
            raise ControlError(
                f"no carp-sidecar answers at {path} ({error.strerror or error}); is it running, as this user, with "
                f"CARP_RUNTIME_DIR={path.parent}?"
            ) from error
        channel = Channel(sock)
        sock.settimeout(_ANSWER_WITHIN)
        yield channel


def _converse(channel: Channel, message: Message, *, wanted: type[M], path: Path) -> M:
    try:
        channel.send(message)
        received = channel.receive()
    except (ChannelClosedError, TimeoutError, MessageError) as error:
        raise ControlError(f"the carp-sidecar at {path} did not answer within {_ANSWER_WITHIN:.0f} s") from error
    answer = None if received is None else received[0]
    if isinstance(answer, Unavailable):
        raise ControlError(f"the carp-sidecar at {path} has no answer: {answer.why}")
    if not isinstance(answer, wanted):
        raise ControlError(f"what answers at {path} is no carp-sidecar of this version")
    return answer


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
