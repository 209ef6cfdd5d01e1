"""The table of milliseconds in memory, which is lost or refuses when it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.net.cutoff import Cutoff, CutoffError, CutoffLostError
from sidecar.protocol.types import IPAddress


@dataclass
class FakeCutoff(Cutoff):
    """``managed`` is None where there is no table; ``live`` has the milliseconds of each."""

    unavailable: str | None = None
    refuses: str | None = None
    managed: list[IPAddress] | None = None
    live: dict[IPAddress, int] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    installs: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.table = "carp-sidecar-test"

    def available(self) -> str | None:
        return self.unavailable

    def install(self, vips: Sequence[IPAddress], *, live: Mapping[IPAddress, int] | None = None) -> None:
        self._may()
        self.installs += 1
        self.managed, self.live = list(vips), dict(live or {})

    def renew(self, vips: Sequence[IPAddress], milliseconds: int) -> None:
        self._may()
        if self.managed is None:
            raise CutoffLostError("no table")
        self.live |= dict.fromkeys(vips, milliseconds)

    def release(self, vips: Sequence[IPAddress]) -> None:
        self._may()
        if self.managed is None:
            raise CutoffLostError("no table")
        for vip in vips:
            self.live.pop(vip, None)

    def remaining(self, vips: Sequence[IPAddress]) -> dict[IPAddress, int]:
        return {vip: self.live[vip] for vip in vips if vip in self.live}

    def sweep(self, vips: Sequence[IPAddress]) -> list[str]:  # noqa: ARG002 - as the real one
        swept, self.leftovers = self.leftovers, []
        return swept

    def remove(self) -> None:
        self._may()
        self.managed = None

    def close(self) -> None:
        self.closed = True

    def _may(self) -> None:
        if self.refuses is not None:
            raise CutoffError(self.refuses)
