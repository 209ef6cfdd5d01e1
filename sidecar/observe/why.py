"""The last changes of the groups' roles and their reasons, for people and for machines."""

from __future__ import annotations

import msgspec

from sidecar.ipc.messages import GroupStatus, StatusReply, TransitionStatus
from sidecar.observe.moment import rfc3339


def as_json_text(reply: StatusReply) -> str:
    """Return one JSON object: ``node``, and for each of ``groups`` its ``transitions``, the newest last."""
    groups = [{"name": group.name, "role": group.role, "transitions": _objects(group)} for group in reply.groups]
    return msgspec.json.format(msgspec.json.encode({"node": reply.node, "groups": groups}), indent=2).decode()


def _objects(group: GroupStatus) -> list[dict[str, object]]:
    return [{**msgspec.to_builtins(each), "at": rfc3339(each.at)} for each in group.history]


def as_text(reply: StatusReply) -> str:
    """Return a line for each group and one for each change of its role, the newest last."""
    lines: list[str] = []
    for group in reply.groups:
        earlier = group.transitions - len(group.history)
        before = f", {earlier} more before these" if earlier > 0 else ""
        lines.append(f"{group.name}: {group.role.upper()} on {reply.node}{before}")
        lines += [_line(each) for each in group.history]
    return "\n".join(lines)


def _line(change: TransitionStatus) -> str:
    return f"  {rfc3339(change.at)}  {change.before} -> {change.after}  {change.reason}: {change.detail}"
