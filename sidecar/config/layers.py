"""Layers of settings: each source checked whole and on its own, then laid over one another. Pure.

A layer says for each setting that it names whether the value is right, wrong (and reported) or empty.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from sidecar.config import document
from sidecar.config.fields import remedy_of
from sidecar.config.probes import PROBES_AT_MOST, ProbeKeys
from sidecar.config.values import FaultError, show
from sidecar.ipc.plan import ProbeKind

_SECRET, _SECRET_FILE = "password", "password_file"
_HEALTH = "health"
_LISTS = frozenset({"vips", "exec"})
"""Fields that may be a list."""
_NEAR_ENOUGH = 0.6


class Problems:
    """The mistakes found so far, one line each, in the order found."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def add(self, label: str, fault: str, cure: str) -> None:
        """Note that the setting ``label`` has ``fault`` and what to do about it."""
        self.add_line(label, f"{fault}; {cure}")

    def add_line(self, label: str, message: str) -> None:
        """Note that ``label`` has a mistake that ``message`` tells with its remedy."""
        self._lines[f"{label}: {message}"] = None

    @property
    def lines(self) -> tuple[str, ...]:
        """All lines, each once."""
        return tuple(self._lines)


class State(enum.Enum):
    """What a layer says of a setting that it names."""

    GIVEN = enum.auto()
    EMPTY = enum.auto()
    """An empty value counts as not given: templates leave such behind."""
    WRONG = enum.auto()
    """Already reported; whoever needs the value goes without another word."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value with the name under which the user knows it. Its repr shows no value: it may be a password."""

    label: str
    state: State
    value: Any = field(default=None, repr=False)


Layer = dict[str, Setting]
Labels = Callable[[str], str]


def check(model: type[BaseModel], given: Mapping[str, object], *, labels: Labels, problems: Problems) -> Layer:
    """Read one layer: text (for some also a list) per field of ``model``. Mistakes go to ``problems``."""
    layer: Layer = {}
    usable: dict[str, object] = {}
    for name, raw in given.items():
        value = raw.strip() if isinstance(raw, str) and name != _SECRET else raw
        if value is None or value == "":
            layer[name] = Setting(labels(name), State.EMPTY)
        elif name == _HEALTH:
            layer[name] = _health(value, labels(name), remedy_of(model, name), problems)
        elif fault := _shape_fault(name, value):
            layer[name] = Setting(labels(name), State.WRONG)
            problems.add(labels(name), fault, remedy_of(model, name))
        else:
            usable[name] = value
    parsed, faults = _validate(model, usable)
    for name, error in faults:
        layer[name] = Setting(labels(name), State.WRONG)
        problems.add(labels(name), error.fault, error.remedy or remedy_of(model, name))
    for name in parsed.model_fields_set:
        layer[name] = Setting(labels(name), State.GIVEN, getattr(parsed, name))
    if all(key in layer and layer[key].state is not State.EMPTY for key in (_SECRET, _SECRET_FILE)):
        layer[_SECRET] = Setting(labels(_SECRET), State.WRONG)
        problems.add(labels(_SECRET), f"{labels(_SECRET_FILE)} is set as well", "keep one of the two")
    return layer


def _health(value: object, label: str, cure: str, problems: Problems) -> Setting:
    """Read the list of probes; by the environment it comes as one text."""
    if isinstance(value, str):
        try:
            value = document.parse(value.encode(errors="replace"))
        except document.DocumentError:
            value = None
    if not isinstance(value, list):
        problems.add(label, "is not a list of probes in YAML or JSON", cure)
        return Setting(label, State.WRONG)
    if len(value) > PROBES_AT_MOST:
        problems.add(label, f"has {len(value)} probes", f"use at most {PROBES_AT_MOST} in one group")
        return Setting(label, State.WRONG)
    probes = [_probe(entry, f"{label}[{index}]", problems) for index, entry in enumerate(value)]
    names = [probe.name for probe in probes if probe is not None]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        problems.add(label, f"{name} is there twice", remedy_of(ProbeKeys, "name"))
        return Setting(label, State.WRONG)
    if None in probes:
        return Setting(label, State.WRONG)
    return Setting(label, State.GIVEN, tuple(probes))


def _probe(entry: object, label: str, problems: Problems) -> ProbeKeys | None:
    """Read one probe; None if it has a mistake, which was reported."""
    before = len(problems.lines)

    def labels(key: str) -> str:
        return f"{label}.{key}"

    if not isinstance(entry, dict):
        problems.add(label, "is not a mapping", "write it as {name: app, http: 'http://127.0.0.1:8080/healthz'}")
        return None
    known = ProbeKeys.model_fields
    for key in entry:
        if key not in known:
            named = key if key.isidentifier() and key.isascii() else show(key)
            problems.add(labels(named), "unknown key", nearest(key, known))
    layer = check(
        ProbeKeys, {key: value for key, value in entry.items() if key in known}, labels=labels, problems=problems
    )
    probe = ProbeKeys.model_construct(None, **values_of(layer))
    if "name" not in layer or layer["name"].state is State.EMPTY:
        problems.add(labels("name"), "not set", remedy_of(ProbeKeys, "name"))
    wrong = [name for name, setting in layer.items() if setting.state is State.WRONG]
    if len(probe.kinds) > 1 or (not probe.kinds and not wrong):
        asks = f"asks {len(probe.kinds)} things at once" if probe.kinds else "asks nothing"
        problems.add(label, asks, f"give it one of {', '.join(ProbeKind)}")
    if probe.max_age is not None and probe.file is None and "file" not in wrong:
        problems.add(labels("max_age"), "is for probes of a file", "leave it out")
    return probe if len(problems.lines) == before else None


def _shape_fault(name: str, value: object) -> str | None:
    if name in _LISTS and isinstance(value, list):
        return None
    if not isinstance(value, str):
        return f"is a {'list' if isinstance(value, list) else 'mapping'} where one value belongs"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    return None


def _validate(model: type[BaseModel], usable: Mapping[str, object]) -> tuple[BaseModel, list[tuple[str, FaultError]]]:
    """Return the right values as a model, and the faults of the others."""
    try:
        return model.model_validate(usable), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    faults = [(str(detail["loc"][0]), _fault(detail, usable)) for detail in details]
    wrong = {name for name, _ in faults}
    return model.model_validate({name: value for name, value in usable.items() if name not in wrong}), faults


def _fault(detail: Any, usable: Mapping[str, object]) -> FaultError:  # noqa: ANN401 - pydantic's ErrorDetails
    name = str(detail["loc"][0])
    own = detail.get("ctx", {}).get("error")
    if isinstance(own, FaultError):
        return own
    shown = "the value" if name == _SECRET else show(usable[name])
    match detail["type"]:
        case "greater_than_equal" | "less_than_equal":
            return FaultError(f"{shown} is out of range")
        case "bool_parsing":
            return FaultError(f"{shown} is neither true nor false")
        case _:
            return FaultError(f"{shown} is not one of its values")


def overlay(layers: Iterable[Layer]) -> Layer:
    """Lay ``layers`` over one another, the strongest last. The two ways to give a password are one setting."""
    result: Layer = {}
    secrets = {_SECRET, _SECRET_FILE}
    for layer in layers:
        told = {name: setting for name, setting in layer.items() if setting.state is not State.EMPTY}
        if secrets & told.keys():
            for name in secrets:
                result.pop(name, None)
        result.update(told)
        for name, setting in layer.items():
            if setting.state is State.EMPTY and name not in result:
                result[name] = setting
    return result


def values_of(layer: Layer) -> dict[str, Any]:
    """Return the layer's right values by field."""
    return {name: setting.value for name, setting in layer.items() if setting.state is State.GIVEN}


def nearest(unknown: str, known: Iterable[str]) -> str:
    """Return the remedy for an unknown name: the known one that looks most like it."""

    def likeness(name: str) -> float:
        pair = (name.lower().removeprefix("carp_"), unknown.lower().removeprefix("carp_"))
        return difflib.SequenceMatcher(None, *pair).ratio()

    best = max(sorted(filter(None, known)), key=likeness, default=None)
    if best is None:
        return "remove it"
    return f"did you mean {best}?" if likeness(best) >= _NEAR_ENOUGH else f"remove it (the nearest known one is {best})"
