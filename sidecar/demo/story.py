"""The story that the demo tells: what it does to the nodes, and what a client and ``kubectl`` see of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.demo.cluster import columns
from sidecar.demo.timeline import Mark, Style, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sidecar.demo.answers import Outage
    from sidecar.demo.cluster import Cluster
    from sidecar.demo.node import SidecarNode
    from sidecar.demo.probe import Prober

VIP = "10.77.0.100"

_BOLD, _PLAIN = "\033[1m", "\033[0m"
_DEADLINE = 30.0  # seconds until an act must have come to its end
_DWELL = 1.5  # seconds after it, for the picture
_LEAD = 1.0  # seconds before it, likewise
_SILENCE = 0.1  # seconds without an answer until nobody is said to answer
_POLL = 0.02  # seconds


class StoryError(RuntimeError):
    """Something did not happen that had to; the message ends with the logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Who plays: the sidecars by their nodes' names, the API, and two probers that ask for the VIP."""

    api: str
    kubeconfig: Path
    cluster: Cluster
    sidecars: Mapping[str, SidecarNode]
    arp: Prober
    echo: Prober


@dataclass(frozen=True, slots=True)
class Ending:
    """How an act ended: its name, the client's outages in it and who answered at the end."""

    act: str
    outage: str
    master: str


def pod_name(node: str) -> str:
    """Return the name of the pod on a node."""
    return f"carp-{node}"


class Story:
    """Tells the story on standard output, in lines of at most ``width`` characters."""

    def __init__(self, scene: Scene, *, style: Style, width: int) -> None:
        self._scene = scene
        self._style = style
        self._width = width
        self._nodes = tuple(scene.sidecars)
        self._marks: list[Mark] = []
        self._endings: list[Ending] = []
        self._answering: str | None = None
        self._labelled: tuple[str, ...] = ()

    def tell(self) -> None:
        """Tell it from beginning to end. Raises StoryError where something doesn't happen within ``_DEADLINE``."""
        first, second, third = self._nodes
        sidecar = self._scene.sidecars[first]
        self._introduce()
        self._act("Election", f"start on {first}, {second}, {third}", self._start_all, master=first)
        self._act("Crash of the master", f"SIGKILL on {first}", sidecar.kill_all, master=second)
        self._act("Its return", f"start on {first}", sidecar.start, master=first)
        self._act("Planned stop", f"SIGTERM on {first}", lambda: self._stop(sidecar), master=second)
        self._sum_up()

    def _introduce(self) -> None:
        self._say(f"""\
Three nodes and a client on a LAN of network namespaces, one carp-sidecar per node, advbase 1, dead ratio 3.
The VIP is {VIP}; {self._nodes[0]} is preferred (lowest advskew, preempt). The client asks every 5 ms who answers.
The API is {self._scene.api}.
To look on: kubectl --kubeconfig {self._scene.kubeconfig} get pods -L carp-role -w""")

    def _start_all(self) -> None:
        for sidecar in self._scene.sidecars.values():
            sidecar.start()

    def _stop(self, sidecar: SidecarNode) -> None:
        if code := sidecar.terminate():
            raise StoryError(f"{sidecar.node.name}'s sidecar ended with exit code {code}:\n{_tail(sidecar)}")

    def _act(self, title: str, cue: str, action: Callable[[], object], *, master: str) -> None:
        """Do something, tell what comes of it until ``master`` alone answers and is labelled, and show the picture."""
        began = time.monotonic()
        self._marks.append(Mark(began, cue))
        self._say(f"\n{self._bold(f'{len(self._endings) + 1}. {title}')}")
        self._event(0.0, cue)
        action()
        self._follow(began, master)
        time.sleep(_DWELL)
        outages = self._scene.echo.answers().outages(since=began)
        told = self._outage_text(outages, began)
        self._endings.append(Ending(f"{title}: {cue}", told, master))
        self._say(f"   client's outage: {self._bold(told)}\n")
        self._picture(began - _LEAD)
        self._say(f"\n   $ kubectl get pods -l carp-role=master -L carp-role\n{_indent(self._table())}")

    def _follow(self, began: float, master: str) -> None:
        while not (self._look(began) == master and self._labelled == (pod_name(master),)):
            if time.monotonic() > began + _DEADLINE:
                logs = "\n".join(
                    f"--- {name}, {'running' if sidecar.running else 'not running'}:\n{_tail(sidecar)}"
                    for name, sidecar in self._scene.sidecars.items()
                )
                raise StoryError(
                    f"{master} should be master, but {_DEADLINE:g} s later {self._answering or 'nobody'} answers and "
                    f"carp-role=master is on {', '.join(self._labelled) or 'no pod'}\n{logs}"
                )
            time.sleep(_POLL)

    def _look(self, began: float) -> str | None:
        """Tell what has changed, and return who answers."""
        latest = self._scene.arp.latest()
        if latest is not None and latest.at >= began:
            if time.monotonic() - latest.at > _SILENCE:
                if self._answering is not None:
                    self._event(latest.at - began, f"the last answer from {self._answering}")
                self._answering = None
            elif latest.node != self._answering:
                self._event(latest.at - began, f"{latest.node} answers for {VIP}")
                self._answering = latest.node
        labelled = self._scene.cluster.masters()
        if labelled != self._labelled:
            names = " and ".join(labelled) or "no pod"
            self._event(time.monotonic() - began, f"carp-role=master is on {names}")
            self._labelled = labelled
        return self._answering

    def _outage_text(self, outages: tuple[Outage, ...], began: float) -> str:
        if not outages:
            return "none, every ping was answered"
        if outages[0].start < began and len(self._endings) == 0:
            return f"none yet: the first answer came {(outages[0].end - began) * 1000:,.0f} ms after the start"
        return " + ".join(f"{outage.seconds * 1000:,.0f} ms" for outage in outages)

    def _picture(self, since: float) -> None:
        timeline = Timeline(
            since=since,
            until=time.monotonic(),
            width=self._width - 3,
            style=self._style,
            nodes=self._nodes,
        )
        outages = self._scene.echo.answers().outages(since=since)
        self._say(_indent(timeline.render(self._scene.arp.answers(), outages=outages, marks=self._marks)))

    def _sum_up(self) -> None:
        answers = self._scene.arp.answers()
        rows = [["ACT", "CLIENT'S OUTAGE", "THEN MASTER"], *([e.act, e.outage, e.master] for e in self._endings)]
        overlap = answers.overlap()
        both = f"for {overlap * 1000:,.0f} ms" if overlap else "never"
        self._say(f"\n{self._bold('In all')}\n{_indent(columns(rows))}\n")
        self._picture(self._marks[0].at - _LEAD / 2)
        self._say(f"\n   Two nodes at once answered {both}, in {len(answers.sent):,} ARP requests.")

    def _table(self) -> str:
        return self._scene.cluster.masters_table()

    def _event(self, after: float, text: str) -> None:
        self._say(f"   {after:+8.3f} s  {text}")

    def _bold(self, text: str) -> str:
        return self._style.paint(text, _BOLD)

    def _say(self, text: str) -> None:
        print(text, flush=True)


def _indent(text: str) -> str:
    return "\n".join(f"   {line}".rstrip() for line in text.splitlines())


def _tail(sidecar: SidecarNode) -> str:
    return "\n".join(sidecar.log.splitlines()[-15:])
