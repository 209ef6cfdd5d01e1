"""The page in Markdown. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import Machine
from bench.mirror.figures import LISTS, RENEWALS, cost, load, share
from bench.mirror.measure import Result, Used
from bench.mirror.requests import ITS_OWN, writes
from bench.page import paragraph, table

_HEAD = """\
# What the mirror costs the API server

Written by `make bench-mirror`; the numbers as they were measured are in [mirror.json](mirror.json). No test asserts on
them. That nothing is written in steady state, and one patch of each pod at a change of role, tests do assert
(`tests/cluster/test_cost.py`).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured, and the machine before and after."""

    before: Machine
    after: Machine
    result: Result


def page(report: Report) -> str:
    """Return the whole page."""
    result = report.result
    measured = [_steady(result), _failover(result), _start(result), _memory(result)]
    notes = Path(__file__).with_name("notes.md").read_text()
    return "\n".join([_HEAD, _machine(report), *measured, _lease(result), notes])


def _machine(report: Report) -> str:
    before, after, size = report.before, report.after, report.result.size
    day = datetime.fromtimestamp(before.at, tz=UTC).date()
    return paragraph(
        f"Measured on {day}, {before.cores} cores of {before.processor}, Linux {before.kernel}, Python "
        f"{before.python}, Kubernetes {report.result.kubernetes} with one etcd; load average {before.load:.1f} "
        f"at the beginning, {after.load:.1f} at the end. {size.agents} agents as by default, each with a pod of "
        f"its own: two are real processes, the others share {size.processes}."
    )


def _steady(result: Result) -> str:
    rows = [
        [name, *_cpu(used), f"{used.seconds:.0f} s", str(sum(writes(used.requests).values())), _kinds(used.requests)]
        for name, used in (("no agent", result.empty), (f"{result.size.agents} agents", result.steady))
    ]
    return "\n".join(
        [
            "## While nothing changes (measured)\n",
            paragraph(
                "CPU in % of one core, from /proc; requests by the API server's own count, which leaves a watch "
                "out until it ends, and here what the API server does for itself."
            ),
            table(["", "kube-apiserver %", "etcd %", "looked at for", "writes", "requests"], rows),
            paragraph(
                f"The agents have {result.watches.get('pods', 0) - 1} watches open: one each, and one more for "
                "the master. By the code, and not measured here: a watch ends after 5 to 10 minutes and its "
                f"pods are listed anew, so that an agent makes {LISTS:.0f} lists and {LISTS:.0f} watches in an hour."
            ),
        ]
    )


def _failover(result: Result) -> str:
    times, used = sorted(result.failovers), result.failover
    count = len(times)
    low, middle, high = (f"{each * 1e3:.0f} ms" for each in (times[0], statistics.median(times), times[-1]))
    rows = [[name, f"{n / count:.2g}"] for name, n in _others(used.requests).items()]
    return "\n".join(
        [
            "## A failover (measured)\n",
            paragraph(
                "The master's agent is frozen, and another one is told that its node is master now. A client "
                f"that watches sees the right label on all {result.size.agents} pods after {middle} in the median of "
                f"{count}, {low} at least, {high} at most. One costs the API server and etcd "
                f"{cost(used, count, beside=result.steady):.0f} ms of CPU time beyond what the same time costs "
                "anyway. Its requests, with those of the dead one that comes back as a backup:"
            ),
            table(["request", "for each failover"], rows),
            paragraph(
                "The patches are of the winner's pod, of the dead one's by the winner, and of the dead one's by "
                "itself once it is back. The list and the watch are the winner's, of all pods of its group. The "
                "Events are on pods and nodes; the same within ten minutes are counted up, as most of them here."
            ),
        ]
    )


def _start(result: Result) -> str:
    used = result.start
    return "## All start at once (measured)\n\n" + paragraph(
        f"{result.labelled:.1f} s from the start of {result.size.agents} agents until every pod is labelled, with what "
        f"Python takes to start on a machine that it shares with the API server; {_kinds(used.requests)}; "
        f"{sum(used.cpu.values()):.1f} s of the API server's and etcd's CPU time."
    )


def _memory(result: Result) -> str:
    sizes = result.memory
    return "## An agent's memory (measured)\n\n" + paragraph(
        f"{sizes['backup']:.1f} MB as a backup, {sizes['master']:.1f} MB as a master that follows {result.size.agents} "
        "pods, after the failovers; as if nothing else ran on its machine. The sidecar's other processes are in "
        "[engine.md](engine.md)."
    )


def _lease(result: Result) -> str:
    size = result.size
    update, get = (cost(used, size.renewals, beside=result.empty) for used in (result.update, result.get))
    rows = [
        [
            f"kube-vip {renewal.versions}: {renewal.duration}, {renewal.deadline}, {renewal.retry} s",
            f"{renewal.writes:.0f}",
            f"{renewal.reads:.0f}",
            *(f"{load(renewal, result, candidates=nodes - 1):.2f} %" for nodes in (3, size.agents)),
        ]
        for renewal in RENEWALS
    ]
    beyond = share(result.steady) - share(result.empty)
    rows.append(["carp-sidecar", "0", f"{2 * LISTS:.0f}", "-", f"{beyond:.2f} % (measured)"])
    failover = sum(writes(result.failover.requests).values()) / len(result.failovers)
    return "\n".join(
        [
            "## Beside an election by a Lease\n",
            paragraph(
                "kube-vip elects by a Lease in the API server. **Read in its source**, not measured: by default "
                "the Lease lasts 15 s, is to be renewed within 10 s and tried every 2 s (`--leaseDuration`, "
                "`--leaseRenewDuration`, `--leaseRetry` in cmd/kube-vip.go since 1.1.0; 5, 3 and 1 s up to "
                "1.0.4, and in many manifests), by client-go's leader election: the leader updates the Lease "
                "once in a retry period, and every other candidate reads it after 1 to 2.2 of them. Candidates "
                "are the control plane's nodes for its address, and all nodes for Services; with "
                "`--servicesElection` there is a Lease for each Service."
            ),
            paragraph(
                f"**Measured here**: {update:.1f} ms of the API server's and etcd's CPU time for an update of a Lease, "
                f"{get:.1f} ms for a read ({size.renewals} of each, {size.renewals / result.update.seconds:.0f} "
                "in a second, "
                "as JSON over one connection; client-go speaks protobuf, which is cheaper). kube-vip itself was "
                "not run."
            ),
            paragraph(
                "**Computed** from these: requests in an hour and CPU in % of one core for one Lease, without "
                "what else kube-vip watches. Ours is the difference of the first table, and in reads the lists "
                "and watches."
            ),
            table(["", "writes", "reads by each other node", "CPU, 3 nodes", f"CPU, {size.agents} nodes"], rows),
            paragraph(
                f"A failover of ours writes {failover:.2g} times, Events included: "
                f"{RENEWALS[0].writes / failover:.0f} of them in an hour write as often as kube-vip does by its "
                "defaults while nothing happens."
            ),
        ]
    )


def _others(requests: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name, n in requests.items() if name not in ITS_OWN}


def _cpu(used: Used) -> list[str]:
    return [f"{used.cpu[name] / used.seconds * 100:.2f}" for name in ("kube-apiserver", "etcd")]


def _kinds(requests: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in _others(requests).items()) or "none"
