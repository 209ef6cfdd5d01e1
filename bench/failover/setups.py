"""What is compared: products, each with its timing and its kind of MAC. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

PREFERRED_SKEW, OTHER_SKEW = 0, 1
PREFERRED_PRIORITY, OTHER_PRIORITY = 101, 100
"""The defaults, and for the preferred node, where a product needs one to be better, the least that makes it so."""


class Product(enum.StrEnum):
    OURS = "carp-sidecar"
    KEEPALIVED = "keepalived"
    UCARP = "ucarp"


class Timing(enum.StrEnum):
    DEFAULT = "default"
    FASTEST = "fastest"
    ADVSKEW_4 = "advskew 4"
    """Ours at advbase 0 and advskew 4, which has an aim of its own."""


class Mac(enum.StrEnum):
    INTERFACE = "interface"
    VIRTUAL = "virtual"


class Fault(enum.StrEnum):
    CRASH = "crash"
    CUT_OFF = "cut off"
    LINK_DOWN = "link down"
    FREEZE = "freeze"
    STOP = "planned stop"
    RETURN = "return"
    HEALED = "healed"


EXPLAINED = {
    Fault.CRASH: "SIGKILL of all processes of the master",
    Fault.CUT_OFF: "the master's node is off the LAN, its carrier stays",
    Fault.LINK_DOWN: "the master's node loses its carrier",
    Fault.FREEZE: "SIGSTOP of all processes of the master",
    Fault.STOP: "SIGTERM to the master",
    Fault.RETURN: "the preferred node, stopped before, starts again and takes over",
    Fault.HEALED: "the node that was cut off is back on the LAN; until then both are masters",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one product is told to be: ``name`` is what a user would write, the rest what goes into its settings."""

    name: str
    first: Mapping[str, str]
    """For the preferred node."""
    other: Mapping[str, str]
    interval: float
    """Seconds between two adverts of the preferred node."""
    down: float
    """Seconds without an advert after which the other one takes over."""


def _ours(advbase: int, first: int, other: int) -> Speed:
    down = 3 * advbase + other / 256 if advbase else 3 * other / 256
    nodes = [{"CARP_ADVBASE": str(advbase), "CARP_ADVSKEW": str(skew)} for skew in (first, other)]
    name = f"advbase {advbase}, advskew {first} and {other}"
    return Speed(name=name, first=nodes[0], other=nodes[1], interval=advbase + first / 256, down=down)


def _keepalived(interval: str, first: int, other: int, *, version: int) -> Speed:
    seconds = float(interval)
    skew = (256 - other) / 256 * (seconds if version == 3 else 1)
    nodes = [{"advert_int": interval, "priority": str(each), "version": str(version)} for each in (first, other)]
    name = f"advert_int {interval}, priority {first} and {other}"
    return Speed(name=name, first=nodes[0], other=nodes[1], interval=seconds, down=3 * seconds + skew)


def _ucarp(advbase: int, first: int, other: int, *, ratio: int = 3) -> Speed:
    nodes = [{"options": f"-b {advbase} -k {skew} -r {ratio} -P"} for skew in (first, other)]
    down = ratio * advbase + other / 256
    name = f"-b {advbase} -k {first} and {other}" + (f" -r {ratio}" if ratio != 3 else "")
    return Speed(name=name, first=nodes[0], other=nodes[1], interval=advbase + first / 256, down=down)


DEFAULTS = {
    Product.OURS: _ours(1, PREFERRED_SKEW, OTHER_SKEW),
    Product.KEEPALIVED: _keepalived("1", PREFERRED_PRIORITY, OTHER_PRIORITY, version=2),
    Product.UCARP: _ucarp(1, PREFERRED_SKEW, OTHER_SKEW),
}
CANDIDATES = {
    Product.OURS: tuple(_ours(0, skew, skew + 1) for skew in (1, 2, 3, 4, 6, 8, 12, 16, 32)),
    Product.KEEPALIVED: tuple(
        _keepalived(interval, 254, 253, version=3)
        for interval in ("0.01", "0.02", "0.03", "0.05", "0.08", "0.12", "0.2", "0.4")
    ),
    Product.UCARP: (_ucarp(0, 1, 2), _ucarp(0, 64, 128), _ucarp(1, 0, 1, ratio=1), _ucarp(1, 0, 1, ratio=2)),
}
"""What may be the fastest, from fast to slow."""
ADVSKEW_4 = _ours(0, 4, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One way to run one product."""

    product: Product
    timing: Timing
    mac: Mac
    speed: Speed

    @property
    def name(self) -> str:
        return f"{self.product}, {self.timing}, {self.mac} MAC"

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it can have VIPs of."""
        return (4,) if self.product is Product.UCARP else (4, 6)

    @property
    def window(self) -> float:
        """Seconds that it is looked at after a fault: enough for any takeover, and to see what is left behind then."""
        return max(2.0, self.speed.down + self.speed.interval + 1.5)


class Fastest(msgspec.Struct, frozen=True, kw_only=True):
    """The fastest candidate that held a stable master for ``seconds``, by product and MAC, and what ailed others."""

    seconds: float
    load: float
    names: dict[str, str] = {}
    unstable: dict[str, dict[str, str]] = {}


def macs(product: Product) -> tuple[Mac, ...]:
    """The kinds of MAC that a product has."""
    return (Mac.INTERFACE,) if product is Product.UCARP else (Mac.INTERFACE, Mac.VIRTUAL)


def key(product: Product, mac: Mac) -> str:
    return f"{product}, {mac} MAC"


def setups(fastest: Fastest) -> list[Setup]:
    """Return all ways to run all products; the fastest only where a soak has found one."""
    found = []
    for product in Product:
        for mac in macs(product):
            found.append(Setup(product=product, timing=Timing.DEFAULT, mac=mac, speed=DEFAULTS[product]))
            by_name = {speed.name: speed for speed in CANDIDATES[product]}
            if speed := by_name.get(fastest.names.get(key(product, mac), "")):
                found.append(Setup(product=product, timing=Timing.FASTEST, mac=mac, speed=speed))
    found.append(Setup(product=Product.OURS, timing=Timing.ADVSKEW_4, mac=Mac.VIRTUAL, speed=ADVSKEW_4))
    return found
