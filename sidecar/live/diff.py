"""What follows from changed settings, group by group. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import asdict, replace

from sidecar.ipc.plan import GroupPlan, Plan

IN_PLACE = frozenset(
    {
        *("key", "accepted_keys", "advbase", "advskew", "dead_ratio", "preempt", "preempt_delay", "startup_delay"),
        *("paths", "lease", "on_exit", "up_command", "down_command", "neutral", "shutdown", "xparam", "mirror"),
    }
)
"""What a group takes over in its role, as master without an outage; of its ``paths`` the peers only."""
FIXED = {
    "node_name": "NODE_NAME",
    "realtime": "CARP_REALTIME",
    "runtime_dir": "CARP_RUNTIME_DIR",
    "log_level": "CARP_LOG_LEVEL",
    "log_format": "CARP_LOG_FORMAT",
}
"""What cannot change while the sidecar runs, under its name for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The groups by what is to be done with them, the new plan's in its order; ``stopped`` are those of the old plan.

    ``removed`` are among the ``stopped``, so are the old ones of ``restarted``.
    """

    stopped: tuple[GroupPlan, ...]
    removed: tuple[str, ...]
    restarted: tuple[GroupPlan, ...]
    changed: tuple[GroupPlan, ...]
    added: tuple[GroupPlan, ...]
    others: bool = False
    """Whether something beside the groups changed."""

    @property
    def started(self) -> tuple[GroupPlan, ...]:
        """The groups that begin."""
        return (*self.restarted, *self.added)

    @property
    def nothing(self) -> bool:
        """Whether all is as before."""
        return not (self.stopped or self.changed or self.added or self.others)

    def __str__(self) -> str:
        told = {
            "removed": self.removed,
            "restarted": _names(self.restarted),
            "changed in place": _names(self.changed),
            "added": _names(self.added),
        }
        text = "; ".join(f"{what}: {', '.join(names)}" for what, names in told.items() if names)
        return text or "no group is concerned"


def refusals(old: Plan, new: Plan) -> tuple[str, ...]:
    """Return a line for each change that takes a restart."""
    return tuple(
        f"{name}: {getattr(old, field)} became {getattr(new, field)}, which needs a restart of the sidecar; "
        "restart it, or set it back"
        for field, name in FIXED.items()
        if getattr(old, field) != getattr(new, field)
    )


def difference(old: Plan, new: Plan) -> Difference:
    """Return what has to be done to go from one plan to the other."""
    before = {group.name: group for group in old.groups}
    after = {group.name for group in new.groups}
    known = [(before[group.name], group) for group in new.groups if group.name in before]
    restarted = [(was, group) for was, group in known if was != group and not _goes_on(was, group)]
    removed = [group for group in old.groups if group.name not in after]
    return Difference(
        stopped=(*removed, *(was for was, _ in restarted)),
        removed=tuple(group.name for group in removed),
        restarted=tuple(group for _, group in restarted),
        changed=tuple(group for was, group in known if was != group and _goes_on(was, group)),
        added=tuple(group for group in new.groups if group.name not in before),
        others=replace(old, groups=(), files={}) != replace(new, groups=(), files={}),
    )


def _goes_on(old: GroupPlan, new: GroupPlan) -> bool:
    return _fixed(old) == _fixed(new)


def _fixed(group: GroupPlan) -> dict[str, object]:
    fixed = {field: value for field, value in asdict(group).items() if field not in IN_PLACE}
    return fixed | {"paths": [(path.source, path.multicast_group) for path in group.paths]}


def _names(groups: tuple[GroupPlan, ...]) -> tuple[str, ...]:
    return tuple(group.name for group in groups)
