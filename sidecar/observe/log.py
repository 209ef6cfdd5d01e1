"""Log lines on stderr, one JSON object or one line of text each; extra fields name what the line is about."""

from __future__ import annotations

import logging
import sys

import msgspec

from sidecar.observe.moment import rfc3339

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure(*, level: str, style: str, process: str) -> None:
    """Send this process's log to stderr. ``level`` is debug..error, ``style`` is json or text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(process) if style == "json" else _TextFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def say(logger: logging.Logger, message: str, **fields: str) -> None:
    """Log what somebody asked for, as info, whatever the level is."""
    logger.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, message, (), None, extra=fields))


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
        return msgspec.json.encode(line, enc_hook=str).decode()


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in self.fields(record).items())
        return f"{rfc3339(record.created)} {record.levelname.lower():7} {self.process}: {self.text(record)}{fields}"
