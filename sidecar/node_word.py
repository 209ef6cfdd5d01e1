"""What people say of this node by its Node object, as the parent keeps it.

The agent reads it, which may die or hang, from an API server that may be away: neither demotes or promotes. So what was
said last stands until something else is said, over restarts of the sidecar too.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import msgspec

from sidecar.ipc.messages import Demote, NodeSays, Promote
from sidecar.ipc.plan import KubernetesPlan
from sidecar.maintenance import one_line
from sidecar.protocol.demotion import HARD

log = logging.getLogger(__name__)

FILE_NAME = "node"
MAINTENANCE, CORDON = "node-maintenance", "cordon"
"""The names of the demotions."""
ADVSKEW_AT_MOST = 254
_BYTES_AT_MOST = 4096


class NodeWord:
    """What the Node object said last; ``load`` comes first."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._says = NodeSays()

    def load(self) -> None:
        """Go on where an earlier run of the sidecar ended; a file that can't be understood counts for nothing."""
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError), self._path.open("rb") as file:
            self._take(msgspec.json.decode(file.read(_BYTES_AT_MOST), type=NodeSays))

    def heard(self, says: NodeSays) -> None:
        """Take what it says now; an advskew that is refused leaves the one before in force."""
        before = self._says
        self._take(says)
        if self._says != before:
            self._keep()

    def _take(self, says: NodeSays) -> None:
        usable = says.refused is None and (says.advskew is None or 0 <= says.advskew <= ADVSKEW_AT_MOST)
        self._says = NodeSays(
            maintenance=None if says.maintenance is None else one_line(says.maintenance),
            advskew=says.advskew if usable else self._says.advskew,
            cordoned=says.cordoned,
        )

    def of(self, plan: KubernetesPlan | None) -> NodeSays:
        """Return what is to be obeyed of it by these settings."""
        if plan is None:
            return NodeSays()
        annotated = self._says if plan.node_annotations else NodeSays()
        return NodeSays(
            maintenance=annotated.maintenance, advskew=annotated.advskew, cordoned=plan.cordon and self._says.cordoned
        )

    def _keep(self) -> None:
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(self._says))
            new.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)  # the half of it that a full disk took
            log.warning("cannot write %s: %s; a restart waits for the API server", self._path, error.strerror)


def instructions(says: NodeSays) -> tuple[Demote | Promote, ...]:
    """Return what the engine is to be told, whatever it was told before."""
    reasons = {
        MAINTENANCE: None if says.maintenance is None else f"annotation carp-sidecar/maintenance: {says.maintenance}",
        CORDON: "the node is cordoned" if says.cordoned else None,
    }
    return tuple(
        Promote(name=name) if detail is None else Demote(name=name, weight=HARD, detail=detail)
        for name, detail in reasons.items()
    )
