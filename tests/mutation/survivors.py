"""Mutants of protocol/ that no test kills, and why none could or should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Survivor:
    """A function, the lines that were changed, and what they were changed to."""

    where: str
    old: str
    new: str


EXPLAINED: Mapping[Survivor, str] = MappingProxyType({})
"""By mutant: the reason."""
