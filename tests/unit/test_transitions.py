"""The table of roles."""

from __future__ import annotations

from sidecar.protocol.transitions import TRANSITIONS
from sidecar.protocol.types import Reason, Role


def test_every_reason_leads_somewhere_and_no_role_to_itself() -> None:
    assert {reason for _, reason in TRANSITIONS} == set(Reason)
    assert all(before is not after for (before, _), after in TRANSITIONS.items())


def test_only_a_backup_takes_over_unless_it_resumes() -> None:
    to_master = {pair for pair, after in TRANSITIONS.items() if after is Role.MASTER}
    assert {before for before, reason in to_master if reason is not Reason.RESUMED} == {Role.BACKUP}
