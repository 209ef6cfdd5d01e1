"""The roles and what leads from one to another: the table that ``Group`` changes its role by, and by nothing else.

docs/protocol.md draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sidecar.protocol.types import Reason, Role

TRANSITIONS: Mapping[tuple[Role, Reason], Role] = MappingProxyType(
    {
        (Role.INIT, Reason.START): Role.BACKUP,
        (Role.INIT, Reason.RESUMED): Role.MASTER,
        (Role.INIT, Reason.LINK_UP): Role.BACKUP,
        (Role.BACKUP, Reason.MASTER_DOWN): Role.MASTER,
        (Role.BACKUP, Reason.BOW_OUT): Role.MASTER,
        (Role.BACKUP, Reason.HANDED_OVER): Role.MASTER,
        (Role.BACKUP, Reason.PREEMPT): Role.MASTER,
        (Role.BACKUP, Reason.SLOWER_MASTER): Role.MASTER,
        (Role.BACKUP, Reason.DEMOTED_MASTER): Role.MASTER,
        (Role.BACKUP, Reason.LINK_DOWN): Role.INIT,
        (Role.BACKUP, Reason.STOP): Role.INIT,
        (Role.MASTER, Reason.BETTER_MASTER): Role.BACKUP,
        (Role.MASTER, Reason.HANDED_OVER): Role.BACKUP,
        (Role.MASTER, Reason.BIND_FAILED): Role.BACKUP,
        (Role.MASTER, Reason.LEASE_UNANSWERED): Role.BACKUP,
        (Role.MASTER, Reason.WOKE_LATE): Role.BACKUP,
        (Role.MASTER, Reason.LINK_DOWN): Role.INIT,
        (Role.MASTER, Reason.STOP): Role.INIT,
    }
)
"""From (role, reason) to the next role; a pair that is not here cannot happen."""
