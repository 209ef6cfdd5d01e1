"""The process that judges changed settings: without rights, gone in a second, its answer one JSON document on stdout.

It reads what start-up read: the files anew, the environment from the memory file that start-up sealed.
"""

from __future__ import annotations

import os
import sys

from sidecar import privileges
from sidecar.live.environment import unseal
from sidecar.live.verdict import Verdict, encode_verdict

_NICER = 10
"""The engine's turns go before."""


def main(*, fd: int, parent: int) -> int:
    """Judge the settings whose environment is readable from ``fd``; return 0 whatever they are."""
    privileges.drop(change_user=False)  # as at the start, files are read by whom the sidecar runs as
    privileges.die_with_parent(parent)
    os.nice(_NICER)
    sys.stdout.buffer.write(encode_verdict(_judge(unseal(fd))))
    return 0


def _judge(environ: dict[str, str]) -> Verdict:
    from sidecar.config.model import SettingsError  # noqa: PLC0415 - pydantic, once there are no rights any more
    from sidecar.startup import load  # noqa: PLC0415 - as above

    try:
        loaded = load(environ)
    except SettingsError as error:
        return Verdict(plan=None, files=error.files, lines=error.lines)
    return Verdict(plan=loaded.plan, files=loaded.plan.files, lines=loaded.warnings)
