"""The story that the demo tells: what it does to the nodes, and what a client and ``kubectl`` see of it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.demo.cluster import columns
from sidecar.demo.timeline import Mark, Style, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sidecar.demo.cluster import Cluster
    from sidecar.demo.node import SidecarNode
    from sidecar.demo.probe import Prober

VIP = "10.77.0.100"

_BOLD = "\033[1m"
_INDENT = "   "
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
class Act:
    """What is done (``cue``, in a few words), and who is to be master at its end."""

    title: str
    cue: str
    master: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How an act ended: the client's outages, and for how long two nodes answered."""

    act: Act
    outage: str
    both: str


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
        self._act(
            Act("Election", f"start on {first}, {second}, {third}", master=first),
            "All listen for 3 s and some 256ths, the lower the advskew the fewer: the first to hear nobody is master.",
            self._start_all,
        )
        self._act(
            Act("Crash of the master", f"SIGKILL on {first}", master=second),
            f"No goodbye. {first}'s kernel answers until its lease of the VIP ends; {second} misses 3 adverts.",
            sidecar.kill_all,
        )
        self._act(
            Act("Its return", f"start on {first}", master=first),
            f"{first} advertises more often than {second}, so with preempt it takes over from it.",
            sidecar.start,
        )
        self._act(
            Act("Planned stop", f"SIGTERM on {first}", master=second),
            f"{first} lets go of the VIP and says goodbye, and {second} takes over at once.",
            lambda: os.kill(sidecar.pid, signal.SIGTERM),
        )
        if code := sidecar.wait():
            raise StoryError(f"the sidecar of {first} ended with exit code {code}:\n{_tail(sidecar)}")
        self._sum_up()

    def _introduce(self) -> None:
        self._say(f"""\
Three nodes and a client on a LAN of network namespaces, one carp-sidecar per node, advbase 1, dead ratio 3.
The VIP is {VIP}; {self._nodes[0]} is preferred (lowest advskew, preempt). The client asks every 5 ms who answers.
The API is {self._scene.api}
To look on: kubectl --kubeconfig {self._scene.kubeconfig} get pods -L carp-role -w""")

    def _start_all(self) -> None:
        for sidecar in self._scene.sidecars.values():
            sidecar.start()

    def _act(self, act: Act, why: str, action: Callable[[], object]) -> None:
        """Do something, tell what comes of it until the new master alone answers and is labelled, show the picture."""
        began = time.monotonic()
        self._marks.append(Mark(began, act.cue))
        self._say(f"\n{self._bold(f'{len(self._endings) + 1}. {act.title}')}\n{_INDENT}{why}\n")
        self._event(0.0, act.cue)
        action()
        self._follow(began, act.master)
        time.sleep(_DWELL)
        ending = self._ending(act, began)
        self._endings.append(ending)
        self._say(f"{_INDENT}the client's outage: {self._bold(ending.outage)}\n")
        self._picture(began - _LEAD, origin=began)
        table = _indent(self._scene.cluster.masters_table())
        self._say(f"\n{_INDENT}$ kubectl get pods -l carp-role=master -L carp-role\n{table}")

    def _ending(self, act: Act, began: float) -> Ending:
        outages = self._scene.echo.answers().outages(since=began)
        if not outages:
            outage = "none"
        elif not self._endings:
            outage = f"until {_milliseconds(outages[0].end - began)} after the start"
        else:
            outage = " + ".join(_milliseconds(outage.seconds) for outage in outages)
        overlap = self._scene.arp.answers().overlap(since=began)
        return Ending(act, outage, _milliseconds(overlap) if overlap else "never")

    def _follow(self, began: float, master: str) -> None:
        while not (self._look(began) == master and self._labelled == (pod_name(master),)):
            runs = self._scene.sidecars[master].running
            if runs and time.monotonic() < began + _DEADLINE:
                time.sleep(_POLL)
                continue
            fault = f"it is not {_DEADLINE:g} s later" if runs else "its sidecar has ended"
            logs = [f"--- {name}:\n{_tail(sidecar)}" for name, sidecar in self._scene.sidecars.items()]
            raise StoryError(
                f"{master} should be master, but {fault}; {self._answering or 'nobody'} answers and "
                f"carp-role=master is on {' and '.join(self._labelled) or 'no pod'}\n" + "\n".join(logs)
            )

    def _look(self, began: float) -> str | None:
        """Tell what has changed, and return who answers."""
        latest = self._scene.arp.latest()
        if latest is not None and latest.at >= began:
            if time.monotonic() - latest.at > _SILENCE:
                if self._answering is not None:
                    self._event(latest.at - began, f"the last answer from {self._answering}")
                self._answering = None
            elif latest.node != self._answering:
                since = self._scene.arp.answers().since_when(latest.node) or latest.at
                self._event(since - began, f"{latest.node} answers for {VIP}")
                self._answering = latest.node
        labelled = self._scene.cluster.masters()
        if labelled != self._labelled:
            names = " and ".join(labelled) or "no pod"
            self._event(time.monotonic() - began, f"carp-role=master is on {names}")
            self._labelled = labelled
        return self._answering

    def _picture(self, since: float, *, origin: float) -> None:
        timeline = Timeline(
            since=since,
            until=time.monotonic(),
            origin=origin,
            width=self._width - len(_INDENT),
            style=self._style,
            nodes=self._nodes,
        )
        outages = self._scene.echo.answers().outages(since=since)
        self._say(_indent(timeline.render(self._scene.arp.answers(), outages=outages, marks=self._marks)))

    def _sum_up(self) -> None:
        heads = ["ACT", "CLIENT'S OUTAGE", "TWO ANSWERED", "THEN MASTER"]
        rows = [[f"{e.act.title}: {e.act.cue}", e.outage, e.both, e.act.master] for e in self._endings]
        self._say(f"\n{self._bold('In all')}\n{_indent(columns([heads, *rows]))}\n")
        self._picture(self._marks[0].at - _LEAD / 2, origin=self._marks[0].at)

    def _event(self, after: float, text: str) -> None:
        self._say(f"{_INDENT}{after:+8.3f} s  {text}")

    def _bold(self, text: str) -> str:
        return self._style.paint(text, _BOLD)

    def _say(self, text: str) -> None:
        print(text, flush=True)


def _indent(text: str) -> str:
    return "\n".join(f"{_INDENT}{line}".rstrip() for line in text.splitlines())


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _tail(sidecar: SidecarNode) -> str:
    return "\n".join(sidecar.log.splitlines()[-15:])
