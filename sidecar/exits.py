"""How the sidecar ends: its exit codes, and the error that carries one."""

from __future__ import annotations

EXIT_STOPPED, EXIT_FAILED, EXIT_SETTINGS, EXIT_PRIVILEGE = 0, 1, 2, 3


class ExitError(Exception):
    """The sidecar can't start or go on; ``code`` is the exit code, the message is for the operator."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
