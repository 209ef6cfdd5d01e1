"""One end of a ``SOCK_SEQPACKET`` socketpair between two processes."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence

from sidecar.ipc.messages import MAXIMUM, AnyMessage, Message, MessageError, decode, encode

_FDS_PER_MESSAGE = 6
_SO_SNDBUFFORCE = 32
_ONLY_ITS_LENGTH = int(socket.MSG_PEEK | socket.MSG_TRUNC)
_CUT_SHORT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_SEND_BUFFER = 4 * 1024 * 1024


class ChannelClosedError(Exception):
    """The other process has ended."""


class Channel:
    """Sends and receives whole messages, with file descriptors where a message carries some.

    The socket is non-blocking: ``receive`` returns None when nothing waits, ``send`` raises BlockingIOError when full.
    """

    __slots__ = ("socket",)

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.socket.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one message. Raises BlockingIOError (full), ChannelClosedError, MessageError (too long)."""
        try:
            if fds:
                socket.send_fds(self.socket, [encode(message)], list(fds))
            else:
                self.socket.send(encode(message))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError from error
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            raise MessageError(f"{type(message).__name__} is longer than the socket's buffer") from error

    def receive(self) -> tuple[AnyMessage, list[int]] | None:
        """Return the next message and its descriptors, or None. Raises ChannelClosedError, MessageError."""
        try:
            # Its length first: to make room for the longest one each time takes five times as long as all the rest.
            length = self.socket.recv_into(bytearray(1), 1, _ONLY_ITS_LENGTH)
            data, fds, flags, _ = socket.recv_fds(self.socket, min(length, MAXIMUM) + 1, _FDS_PER_MESSAGE)
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            raise ChannelClosedError from error
        if not data:
            raise ChannelClosedError
        if flags & _CUT_SHORT:
            _close(fds)
            raise MessageError("a message was cut short")
        try:
            return decode(data), fds
        except MessageError:
            _close(fds)
            raise

    def close(self) -> None:
        """Close this end; the other one sees ChannelClosedError."""
        self.socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """Return our end of a new channel, and the raw other end to be inherited by a child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        with contextlib.suppress(PermissionError):  # 255 groups at start-up are more than the default holds
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
    return Channel(ours), theirs


def _close(fds: list[int]) -> None:
    for fd in fds:
        socket.close(fd)
