"""The settings file as one node sees it: top level, ``groups:``, and the overrides under ``nodes:``. Pure.

Every part is checked, also the overrides of other nodes, so that a mistake shows on the first node that reads the file
and not on the one that it is meant for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from pydantic import BaseModel

from sidecar.config.layers import Labels, Layer, Problems, check, nearest
from sidecar.config.model import DEFAULT_GROUP, GlobalKeys, GroupKeys, IdentityKeys, env_name
from sidecar.config.values import FaultError, dns_label, show


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the file's ``groups:``."""

    name: str
    layer: Layer
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A settings file as seen by one node. ``entries`` is None where the file has no ``groups:``."""

    path: str = ""
    top: Layer = field(default_factory=dict)
    entries: tuple[Entry, ...] | None = None
    node: Layer = field(default_factory=dict)
    node_groups: Mapping[str, Layer] = field(default_factory=dict)


def read_file(data: object, *, path: str, node: str, problems: Problems) -> File:
    """Read the plain data of a settings file for ``node``. Mistakes anywhere in it go to ``problems``."""
    if data is None:
        return File(path=path)
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else "a bare value"
        problems.add(path, f"the file holds {kind} where a mapping belongs", "write settings as key: value")
        return File(path=path)
    reader = _FileReader(path, problems)
    entries = reader.entries(data["groups"]) if "groups" in data else None
    names = [entry.name for entry in entries] if entries else [DEFAULT_GROUP]
    overrides = reader.nodes(data.get("nodes"), names)
    own, own_groups = overrides.get(node, ({}, {}))
    top = reader.layer(data, "", models=(GlobalKeys, GroupKeys), structure=("groups", "nodes"))
    return File(path=path, top=top, entries=entries, node=own, node_groups=own_groups)


class _FileReader:
    """Turns parts of one file into layers, and knows how to name a place in it."""

    def __init__(self, path: str, problems: Problems) -> None:
        self._path = path
        self._problems = problems

    def labels(self, where: str) -> Labels:
        return lambda key: f"{self._path}: {where}{key}"

    def layer(
        self,
        data: Mapping[str, object],
        where: str,
        *,
        models: tuple[type[BaseModel], ...],
        structure: Iterable[str] = (),
    ) -> Layer:
        layer: Layer = {}
        known: set[str] = set()
        for model in models:
            fields = {name: value for name, value in data.items() if name in model.model_fields}
            known |= model.model_fields.keys()
            layer |= check(model, fields, labels=self.labels(where), problems=self._problems)
        known.update(structure)
        for key in data:
            if key not in known:
                self._problems.add(self.labels(where)(_key(key)), "unknown key", _place(key, known))
        return layer

    def entries(self, data: object) -> tuple[Entry, ...]:
        label = self.labels("")("groups")
        if not isinstance(data, list) or not data:
            self._problems.add(
                label, "is not a list with at least one group", "write - name: ... per group, or remove it"
            )
            return ()
        seen: dict[str, int] = {}
        return tuple(
            self._entry(item, index, seen)
            for index, item in enumerate(data)
            if self._is_mapping(item, f"groups[{index}]")
        )

    def _entry(self, item: Mapping[str, object], index: int, seen: dict[str, int]) -> Entry:
        where = f"groups[{index}]."
        label = self.labels(where)("name")
        name = item.get("name")
        if name is None or not isinstance(name, str):
            self._problems.add(label, "not set", "give each group a name of its own, such as web")
            name = ""
        else:
            try:
                dns_label(name)
            except FaultError as fault:
                self._problems.add(label, fault.fault, fault.remedy or "")
            if name in seen:
                self._problems.add(
                    label, f"{show(name)} is groups[{seen[name]}] already", "give each group its own name"
                )
            seen.setdefault(name, index)
        return Entry(
            name=name,
            layer=self.layer(item, where, models=(GroupKeys,), structure=("name",)),
            labels=self.labels(where),
        )

    def nodes(self, data: object, names: list[str]) -> dict[str, tuple[Layer, dict[str, Layer]]]:
        if data is None or not self._is_mapping(data, "nodes"):
            return {}
        overrides = {}
        for node, keys in data.items():
            where = f"nodes.{_key(node)}"
            if keys is None or not self._is_mapping(keys, where):
                continue
            layer = self.layer(keys, f"{where}.", models=(GroupKeys,), structure=("groups",))
            overrides[node] = (layer, self._node_groups(keys.get("groups"), f"{where}.groups", names))
        return overrides

    def _node_groups(self, data: object, where: str, names: list[str]) -> dict[str, Layer]:
        if data is None or not self._is_mapping(data, where):
            return {}
        layers = {}
        for name, keys in data.items():
            place = f"{where}.{_key(name)}"
            if name not in names:
                self._problems.add(self.labels("")(place), "unknown group", nearest(name, names))
            if keys is not None and self._is_mapping(keys, place):
                layers[name] = self.layer(keys, f"{place}.", models=(GroupKeys,))
        return layers

    def _is_mapping(self, data: object, where: str) -> TypeGuard[Mapping[str, object]]:
        if isinstance(data, dict):
            return True
        self._problems.add(self.labels("")(where), "is not a mapping", "write its settings as key: value below it")
        return False


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").replace(".", "").isalnum() else show(key)


def _place(key: str, known: set[str]) -> str:
    if key in IdentityKeys.model_fields:
        return f"set it in the environment, as {env_name(key)}"
    if key in GlobalKeys.model_fields:
        return "move it to the top level of the file, since it holds for all groups and nodes"
    return nearest(key, known)
