"""The command: one line for each step, on stdout; what stops it is one line on stderr."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import asdict, dataclass
from typing import TextIO

from sidecar.agent.errors import ApiError
from sidecar.agent.state import MirrorStatus
from sidecar.agent.transport import Transport
from sidecar.exits import EXIT_FAILED
from sidecar.ipc.plan import KubernetesPlan
from sidecar.rollout.cluster import KubernetesCluster, RolloutError
from sidecar.rollout.steps import News, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to roll out. ``kubeconfig`` is a path, or "" for the pod's own account; ``patience`` is for each node."""

    namespace: str
    daemonset: str
    role_label: str
    kubeconfig: str
    patience: float
    dry_run: bool
    as_json: bool


def run(asked: Asked, *, out: TextIO, err: TextIO) -> int:
    """Roll out, or tell in which order; return the exit code: 0 done, 1 stopped."""
    plan = KubernetesPlan(
        pod_name="", pod_namespace=asked.namespace, role_label=asked.role_label, kubeconfig=asked.kubeconfig
    )
    try:
        asyncio.run(_run(asked, Transport(plan, MirrorStatus()), out))
    except (RolloutError, ApiError) as error:
        print(f"carp-sidecar: rollout: {error}", file=err)
        return EXIT_FAILED
    return 0


async def _run(asked: Asked, transport: Transport, out: TextIO) -> None:
    def tell(news: News) -> None:
        print(to_json(news) if asked.as_json else to_text(news), file=out, flush=True)

    cluster = KubernetesCluster(
        transport, namespace=asked.namespace, daemonset=asked.daemonset, role_label=asked.role_label
    )
    try:
        if not asked.dry_run:
            await Rollout(cluster, tell, name=secrets.token_hex(4), patience=asked.patience).run()
            return
        fleet = await cluster.look()
        for pod in fleet.old:
            tell(News(event="would replace", node=pod.node, pod=pod.name, master_of=fleet.mastered(pod.node)))
        tell(News(event="would be done", replaced=len(fleet.old)))
    finally:
        await transport.close()


def to_text(news: News) -> str:
    """Return a line for people."""
    match news.event:
        case "replacing" | "would replace":
            role = f"master by {', '.join(news.master_of)}" if news.master_of else "no master"
            return f"{news.node}: {news.event} {news.pod}, {role}"
        case "ready":
            return f"{news.node}: {news.pod} is ready, {news.replaced} replaced"
        case "asking":
            return f"{news.node}: {news.why}"
        case "waiting":
            return f"waiting: {news.why}"
        case _:
            moves = [f"{label} moved {_times(count)}, master is {node}" for label, count, node in news.moves]
            return "; ".join([f"{news.event}: {news.replaced} replaced", *moves])


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def to_json(news: News) -> str:
    """Return a line for machines: what belongs to the event, and no more."""
    moves = {label: {"times": count, "master": node} for label, count, node in news.moves}
    fields = {**asdict(news), "moves": moves}
    return json.dumps({name: value for name, value in fields.items() if value or value == 0})
