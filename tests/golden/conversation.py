"""A conversation as text: who took which event at what time, and what came of it.

The LAN is the simulated one with every delay at its fixed most, so that a conversation is the same each time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from ipaddress import IPv4Address

from sidecar.protocol import effects, events
from sidecar.protocol.types import GroupConfig
from tests.fakes.faults import Fault
from tests.fakes.host import Conditions, Node
from tests.fakes.lan import Lan

NAMES = "abc"
CONDITIONS = Conditions(delay=0.001, wake=0.0, work=0.002, slop=0.5)
BASE = GroupConfig(name="web", vhid=1, source=IPv4Address("10.0.0.1"))


class SteadyLan(Lan):
    """A LAN on which everything takes its time, and the same each time."""

    def chance(self, most: float) -> float:
        return most


class Conversation:
    """Nodes a, b and c, told as they speak. ``config`` holds for all, ``nodes`` for each; names stand for addresses."""

    def __init__(self, *nodes: Mapping[str, object], sealed: bool = True, **config: object) -> None:
        configs = [
            replace(BASE, **({"source": IPv4Address(f"10.0.0.{number}")} | config | dict(own)))  # type: ignore[arg-type]
            for number, own in enumerate(nodes, start=1)
        ]
        self.lan = SteadyLan(configs, replace(CONDITIONS, sealed=sealed), seed=0)
        self.lan.listeners.append(self._heard)
        self.lan.watchers.append(self._watch)
        self._lines: list[str] = []
        self._answers = [False] * len(configs)

    # What happens ------------------------------------------------------------------------------------------------

    def start(self, *numbers: int) -> None:
        """Start these nodes, or all."""
        for number in numbers or range(len(self.lan.nodes)):
            self.lan.nodes[number].start()

    def until(self, time: float) -> None:
        """Let it be ``time``."""
        self.lan.run(time - self.lan.now)

    def inject(self, fault: Fault) -> None:
        """Let a fault happen now."""
        self._line("*", _told(fault))
        self.lan.inject(fault)

    # How it is told ----------------------------------------------------------------------------------------------

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _line(self, who: str, what: str, outcome: str = "") -> None:
        text = f"{self.lan.now:8.3f}  {who}  {self._named(what):33} {'-> ' if outcome else ''}{self._named(outcome)}"
        self._lines.append(text.rstrip())

    def _named(self, text: str) -> str:
        for node in self.lan.nodes:
            name = NAMES[node.number]
            text = text.replace(str(node.config.source), name)
            if node.config.second_source is not None:
                text = text.replace(str(node.config.second_source), f"{name} (IPv6)")
        return text

    def _heard(self, node: Node, event: events.Event, wanted: Sequence[effects.Effect]) -> None:
        self._line(NAMES[node.number], _event(event), "; ".join(_effect(effect) for effect in wanted))

    def _watch(self) -> None:
        for node in self.lan.nodes:
            if node.answers() is not self._answers[node.number]:
                self._answers[node.number] = node.answers()
                self._line(NAMES[node.number], "[the kernel answers]" if node.answers() else "[no more answers]")


def _event(event: events.Event) -> str:
    text = _told(event)
    match event:
        case events.Start(link_up=link_up, resume=resume):
            text = "start" + (", resuming" if resume else "") + ("" if link_up else ", link down")
        case events.AdvertReceived(source=source):
            text = f"hears {source}: {_advert(event)}"
        case events.Tick():
            text = "timer"
        case events.LinkChanged(up=up):
            text = f"link {'up' if up else 'down'}"
        case events.LeaseAnswered(error=error):
            text = "leased" if error is None else f"not leased: {error}"
        case events.LeaseReleased():
            text = "released"
    return text


def _effect(effect: effects.Effect) -> str:
    match effect:
        case effects.Advertise():
            return f"say {_advert(effect)}"
        case effects.AdvertiseTo(advert=advert, target=target):
            return f"tell {target} {_advert(advert)}"
        case effects.RoleChanged(before=before, after=after, reason=reason, detail=detail):
            return f"{before.upper()} TO {after.upper()} ({reason}: {detail})"
        case _:
            return _told(effect)


def _advert(advert: events.AdvertReceived | effects.Advertise) -> str:
    match advert.advbase, advert.advskew:
        case (255, 255):
            text = "goodbye"
        case (255, 254):
            text = "goodbye, but answers on"
        case (255, 253):
            text = "let go"
        case advbase, advskew:
            text = f"{advbase} s + {advskew}/256"
    return text + (f", demoted by {advert.demotion}" if advert.demotion else "")


def _told(thing: object) -> str:
    """Name anything by its class and its fields, but for defaults and details; a node by its letter."""
    told = [re.sub(r"(?<!^)(?=[A-Z])", " ", type(thing).__name__).lower()]
    for field in fields(thing):  # type: ignore[arg-type]
        value = getattr(thing, field.name)
        if value == field.default or field.name == "detail":
            continue
        match field.name:
            case "node" | "sender" | "receiver":
                told.append(NAMES[value])
            case "members":
                told += [NAMES[number] for number in sorted(value)]
            case name:
                told.append(f"{name}={value}")
    return " ".join(told)
