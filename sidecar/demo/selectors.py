"""Label and field selectors as they stand in a URL. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Pod = dict[str, Any]
Selector = Callable[[Pod], bool]

_FIELDS = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.nodeName": ("spec", "nodeName"),
    "status.phase": ("status", "phase"),
}
_KEY = r"(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)"
_SET = re.compile(rf"{_KEY}\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(rf"{_KEY}\s*(?P<operator>==|=|!=)\s*(?P<value>[-A-Za-z0-9_.]*)")
_EXISTENCE = re.compile(rf"(?P<not>!?)\s*{_KEY}")
_COMMA = re.compile(r",(?![^(]*\))")  # not one inside parentheses


class SelectorError(ValueError):
    """Text that is no selector."""


def selector(labels: str, fields: str) -> Selector:
    """Return what both selectors together ask of a pod; an empty one asks nothing. Raises SelectorError."""
    wanted = [*map(_label, _split(labels)), *map(_field, _split(fields))]
    return lambda pod: all(holds(pod) for holds in wanted)


def _split(text: str) -> list[str]:
    return [term.strip() for term in _COMMA.split(text)] if text.strip() else []


def _label(term: str) -> Selector:
    if match := _SET.fullmatch(term):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return _one_of(match["key"], values, negated=match["operator"] == "notin")
    if match := _EQUALITY.fullmatch(term):
        return _one_of(match["key"], frozenset({match["value"]}), negated=match["operator"] == "!=")
    if match := _EXISTENCE.fullmatch(term):
        key, wanted = match["key"], not match["not"]
        return lambda pod: (key in _labels(pod)) is wanted
    raise SelectorError(f"unable to parse requirement: {term!r}")


def _one_of(key: str, values: frozenset[str], *, negated: bool) -> Selector:
    """A pod without the label satisfies the negated forms, as it does in Kubernetes."""
    return lambda pod: (_labels(pod).get(key) in values) is not negated


def _field(term: str) -> Selector:
    match = _EQUALITY.fullmatch(term)
    if not match or match["key"] not in _FIELDS:
        raise SelectorError(f"field label not supported: {term!r}")
    (section, name), value, equal = _FIELDS[match["key"]], match["value"], match["operator"] != "!="
    return lambda pod: (pod.get(section, {}).get(name, "") == value) is equal


def _labels(pod: Pod) -> dict[str, str]:
    labels: dict[str, str] = pod["metadata"].get("labels") or {}
    return labels
