"""What all parts of the mirror share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.agent.complaints import Complaints
from sidecar.agent.state import MirrorStatus
from sidecar.ipc.messages import MirroredGroup
from sidecar.ipc.plan import KubernetesPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who we are, what is mirrored, and where faults go. ``jitter`` returns 0..1, ``wall`` Unix seconds."""

    plan: KubernetesPlan
    node: str
    groups: tuple[MirroredGroup, ...]
    status: MirrorStatus
    complaints: Complaints
    jitter: Callable[[], float] = random.random
    wall: Callable[[], float] = time.time
