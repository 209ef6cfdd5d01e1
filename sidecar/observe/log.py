"""Log lines on stderr, one JSON object or one line of text each; extra fields name what the line is about.

A line is never waited for: whoever reads stderr may be slow or stuck, and a lease is not. What does not fit is dropped,
and counted in the next line that does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import stat

import msgspec

from sidecar.observe.moment import rfc3339

_STDERR = 2
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure(*, level: str, style: str, process: str) -> None:
    """Send this process's log to stderr. ``level`` is debug..error, ``style`` is json or text."""
    handler = _Handler(_without_waiting(_STDERR))
    handler.setFormatter(_JsonFormatter(process) if style == "json" else _TextFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def say(logger: logging.Logger, message: str, **fields: str) -> None:
    """Log what somebody asked for, as info, whatever the level is."""
    logger.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, message, (), None, extra=fields))


def _without_waiting(fd: int) -> int:
    """Put a description of its own, which never blocks, in the place of a pipe or a terminal that others write to too.

    A child inherits it. Where that is not allowed (another user's), there is still the look at whether it takes a line.
    """
    mode = os.fstat(fd).st_mode
    if (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) and os.get_blocking(fd):
        with contextlib.suppress(OSError):
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.dup2(own, fd)
            os.close(own)
    return fd


class _Handler(logging.Handler):
    """Writes to a descriptor what it takes at once. ``_rest`` is what it did not take of the last line."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._rest = b""
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._rest = self._write(self._rest)
        if not self._rest and self._dropped:
            told = logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING"})
            told.msg = f"{self._dropped} log lines were dropped: nobody read them"
            self._dropped = 0
            self._rest = self._write(self._line(told))
        if self._rest:
            self._dropped += 1
        else:
            self._rest = self._write(self._line(record))

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _write(self, data: bytes) -> bytes:
        """Return what is left to be written; nothing where nobody reads any more."""
        while data and self._poll.poll(0):
            try:
                data = data[self._send(data) :]
            except BlockingIOError:
                break
            except OSError:
                return b""
        return data

    def _send(self, data: bytes) -> int:
        if not self._is_socket:
            return os.write(self._fd, data[: select.PIPE_BUF])
        with socket.socket(fileno=os.dup(self._fd)) as sock:
            return sock.send(data, socket.MSG_DONTWAIT)


class _Formatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        return {key: value for key, value in vars(record).items() if key not in _STANDARD}

    def text(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        return f"{message}\n{self.formatException(record.exc_info)}" if record.exc_info else message


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "process": self.process,
            "message": self.text(record),
            **self.fields(record),
        }
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # such as an interface's name, which may be any bytes
            plain = {key: str(value).encode(errors="backslashreplace").decode() for key, value in line.items()}
            return msgspec.json.encode(plain).decode()


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in self.fields(record).items())
        return f"{rfc3339(record.created)} {record.levelname.lower():7} {self.process}: {self.text(record)}{fields}"
