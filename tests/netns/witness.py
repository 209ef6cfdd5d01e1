"""What is seen of a fault from outside: who answers each probe, and who has a VIP bound, in the kernel's own order."""

from __future__ import annotations

import contextlib
import re
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sidecar.demo.answers import Answers
from sidecar.demo.lan import Lan
from sidecar.demo.probe import Prober, all_prober
from tests.netns.peers import until

_EVENT = re.compile(
    r"\[nsid (?P<node>\d+)\](?P<deleted>Deleted )?\d+: +(?P<interface>\S+) +inet6? (?P<address>[0-9a-f.:]+)/"
)


@dataclass(frozen=True, slots=True)
class Event:
    """A node got an address, again or for the first time, or lost it."""

    node: str
    address: str
    bound: bool


def events(printed: str) -> list[Event]:
    """Read what ``ip -o monitor all-nsid address`` has printed; the nodes have the ids of their numbers."""
    found = []
    for line in printed.splitlines():
        if match := _EVENT.search(line):
            found.append(Event(f"node-{match['node']}", match["address"], match["deleted"] is None))
    return found


def shared(found: Sequence[Event]) -> list[int]:
    """Return the numbers of the events by which an address came to a node while another node had it."""
    holders: dict[str, set[str]] = defaultdict(set)
    wrong = []
    for number, event in enumerate(found):
        if not event.bound:
            holders[event.address].discard(event.node)
            continue
        if holders[event.address] - {event.node}:
            wrong.append(number)
        holders[event.address].add(event.node)
    return wrong


def order(answers: Answers, first: int = 0) -> list[str]:
    """Return who answered, from probe number ``first`` on, each node once for each of its runs."""
    found: list[str] = []
    for answer in sorted(answers.received, key=lambda answer: (answer.probe, answer.at)):
        if answer.probe >= first and found[-1:] != [answer.node]:
            found.append(answer.node)
    return found


def doubles(answers: Answers, first: int = 0) -> list[int]:
    """Return the probes, from number ``first`` on, that more than one node answered."""
    nodes: dict[int, set[str]] = defaultdict(set)
    for answer in answers.received:
        if answer.probe >= first:
            nodes[answer.probe].add(answer.node)
    return sorted(probe for probe, answering in nodes.items() if len(answering) > 1)


def taken_for(answers: Answers, node: str, another: str) -> Answers:
    """Return the answers as if those of ``node`` had come from ``another``."""
    told = (replace(answer, node=another) if answer.node == node else answer for answer in answers.received)
    return replace(answers, received=tuple(told))


def unanswered(answers: Answers, first: int = 0) -> int:
    """Return how many probes, from number ``first`` to the last one that was answered, nobody answered."""
    answered = {answer.probe for answer in answers.received if answer.probe >= first}
    return max(answered, default=first - 1) + 1 - first - len(answered)


class Witness:
    """Probes ``vip`` every millisecond and writes down who has which address; both from ``with`` to its end.

    ``vip6`` is probed too, more rarely.
    """

    def __init__(self, prober: Prober, prober6: Prober, ledger: Path) -> None:
        self._prober = prober
        self._prober6 = prober6
        self._ledger = ledger

    @property
    def answers(self) -> Answers:
        """All that the prober has seen."""
        return self._prober.answers()

    @property
    def answers6(self) -> Answers:
        """All that the other prober has seen."""
        return self._prober6.answers()

    @property
    def events(self) -> list[Event]:
        """What the kernel has told until now, in its order."""
        return events(self._ledger.read_text())

    def holders(self, vip: str) -> set[str]:
        """Who has the VIP now."""
        last = {event.node: event.bound for event in self.events if event.address == vip}
        return {node for node, bound in last.items() if bound}

    def now(self) -> Mark:
        """Remember this moment."""
        return Mark(len(self.answers.sent), len(self.answers6.sent), len(self.events))

    def answering(self) -> set[str]:
        """Who answered last, over IPv4 and over IPv6."""
        latest = self._prober.latest(), self._prober6.latest()
        return {answer.node if answer else "" for answer in latest}


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: how many probes were sent, by IP version, and how many events were told."""

    probes: int
    probes6: int
    events: int


@contextlib.contextmanager
def witness(lan: Lan, vip: str, vip6: str, directory: Path) -> Iterator[Witness]:
    """Look at a LAN from its client."""
    ledger = directory / "addresses"
    for number, node in enumerate(lan.nodes, start=1):
        lan.client.run(["ip", "netns", "set", node.netns, str(number)])  # whose messages come with this number
    with ledger.open("wb") as file:
        monitor = lan.client.popen(["ip", "-ts", "-o", "monitor", "all-nsid", "address"], stdout=file, stderr=file)
    try:
        with all_prober(lan, vip) as prober, all_prober(lan, vip6, interval=_RARELY) as prober6:
            seen = Witness(prober, prober6, ledger)
            # A word to itself tells that the monitor listens.
            until(lambda: lan.nodes[0].run(_SOUND, check=False) and seen.events, "the addresses are watched")
            yield seen
    finally:
        monitor.send_signal(signal.SIGTERM)
        monitor.wait()


_RARELY = 0.005  # seconds
_SOUND = ["ip", "address", "replace", "127.0.0.2/32", "dev", "lo"]
