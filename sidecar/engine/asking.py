"""A group's questions to the LAN about its VIPs, on the wire and in the log."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from sidecar.engine.inquiry import OCCUPIED_FOR, Proof, Scout, Verdict
from sidecar.engine.path import Port
from sidecar.net import sockets
from sidecar.net.inquiry import Answer, question
from sidecar.protocol.events import Occupied
from sidecar.protocol.types import IPAddress

log = logging.getLogger(__name__)

REPORT_EVERY = 600.0
"""Seconds until the log mentions the same contestant again."""
REPORTS_AT_MOST = 16
"""In that time: MACs can be made up at will."""


class Asking:
    """What a group asks, and what it has learnt. Where its port hears no answers, it asks nothing."""

    def __init__(self, group: str, port: Port, vips: Sequence[IPAddress]) -> None:
        self._group = group
        self._port = port
        self._vips = tuple(vips)
        self._scout: Scout | None = None
        self._verdict: Verdict | None = None
        self._reported: dict[tuple[IPAddress, bytes], float] = {}

    @property
    def deadline(self) -> float:
        """When something is to be asked."""
        return min(each.deadline if each is not None else math.inf for each in (self._scout, self._verdict))

    @property
    def proof(self) -> str | None:
        """What is known of the last announcement; None if there was none, or nobody is asked."""
        return None if self._verdict is None else self._verdict.proof.value

    @property
    def contestants(self) -> tuple[str, ...]:
        """Who else answers for a VIP."""
        others = () if self._verdict is None else self._verdict.others
        return tuple(f"{vip} at {mac.hex(':')}" for vip, mac in others)

    def follow(self, *, unproven: bool, master: bool, interval: float, now: float) -> None:
        """Scout while this node listens and knows nothing yet; hold a verdict while it is master."""
        if not (unproven and self._port.ears):
            self._scout = None
        elif self._scout is None:
            self._scout = Scout(now, interval=interval)
        if not master:
            self._verdict = None

    def announced(self, now: float) -> None:
        """Ask for the proof of an announcement that was just made."""
        if self._port.ears:
            self._verdict = self._verdict or Verdict(self._vips)
            self._verdict.announced(now)

    def ask(self, now: float, *, mac: bytes, peers: Callable[[], Sequence[IPAddress]]) -> bool:
        """Ask what is due; return whether to announce again. ``mac`` is what the VIPs are announced at."""
        if self._scout is not None:
            for each in self._scout.due(now, self._vips):
                self._send(question(mac=self._port.mac, target=each.target))
        verdict = self._verdict
        if verdict is None or now < verdict.deadline:
            return False
        for each in verdict.due(now, (*self._port.gateways, *peers())):
            # In nobody's name from the NIC's own MAC: the answer comes to us wherever the switch has a virtual one.
            own = self._port.mac if each.sender is None else mac
            self._send(question(mac=own, target=each.target, sender=each.sender))
        return verdict.announces_again()

    def heard(self, answer: Answer, now: float, *, mac: bytes) -> Occupied | None:
        """Take an answer from the LAN; return what it means for a node that has not held the VIPs yet."""
        if answer.mac in self._port.own_macs:
            return None
        if self._scout is not None and answer.address in self._vips:
            by = f"{answer.address} is at {answer.mac.hex(':')}"
            return Occupied(by=by, seconds=OCCUPIED_FOR * self._scout.spacing)
        if self._verdict is not None and self._verdict.heard(answer, mac=mac):
            self._report(answer, now)
        return None

    def _report(self, answer: Answer, now: float) -> None:
        self._reported = {key: at for key, at in self._reported.items() if now - at < REPORT_EVERY}
        key = answer.address, answer.mac
        if key in self._reported or len(self._reported) >= REPORTS_AT_MOST:
            return
        self._reported[key] = now
        log.warning(
            "%s is %s: %s answers for it too; find that host by its MAC, and take the address off it (ip addr del), as "
            "where a killed ucarp or keepalived has left it",
            answer.address,
            Proof.CONTESTED,
            answer.mac.hex(":"),
            extra={"group": self._group},
        )

    def _send(self, frame: bytes) -> None:
        wire = next(iter(self._port.wires.values()))  # a packet socket sends frames of any kind
        sockets.send(wire, frame)  # a question that is lost is one that nobody answers
