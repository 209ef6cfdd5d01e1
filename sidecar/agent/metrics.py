"""The metrics, as one table: docs/metrics.md lists what ``render`` writes (``python -m sidecar.agent.metrics``).

Prometheus' text format 0.0.4. Rendered from the engine's status when somebody asks, so there is no registry to keep in
step, and no library to load for it. Labels hold what the settings name or an enum does: no address of a stranger.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sidecar import __version__
from sidecar.agent.state import ApiState, MirrorStatus
from sidecar.ipc.messages import GroupStatus, LagStatus, SettingsStatus, StatusReply
from sidecar.protocol.types import DropReason, Reason, Role

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the metrics are made from; ``status`` is None where the engine does not answer, ``now`` is Unix seconds."""

    status: StatusReply | None
    mirror: MirrorStatus | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: the values of its metric's labels, and the value. ``suffix`` is for histograms."""

    labels: tuple[str, ...]
    value: float
    suffix: str = ""


Read = Callable[[Facts], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. ``kind`` is gauge, counter or histogram."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Read


def render(facts: Facts) -> str:
    """Return all that is known, in Prometheus' text format."""
    return "".join(line for metric in TABLE for line in _lines(metric, facts))


def _lines(metric: Metric, facts: Facts) -> Iterator[str]:
    samples = list(metric.read(facts))
    if not samples:
        return
    yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    for sample in samples:
        pairs = zip(metric.labels, sample.labels, strict=False)  # a histogram's sum and count have no `le`
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
        yield f"{metric.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {sample.value:.15g}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


# Readers -------------------------------------------------------------------------------------------------------------


def _groups(samples: Callable[[GroupStatus], Iterable[Sample]]) -> Read:
    """Read each group, whose name and vhid are the first two labels."""

    def read(facts: Facts) -> Iterator[Sample]:
        for group in facts.status.groups if facts.status else ():
            for sample in samples(group):
                yield Sample((group.name, str(group.vhid), *sample.labels), sample.value)

    return read


def _of_group(value: Callable[[GroupStatus], float | None]) -> Read:
    def samples(group: GroupStatus) -> Iterator[Sample]:
        number = value(group)
        if number is not None:
            yield Sample((), number)

    return _groups(samples)


def _counted(known: Iterable[str], counts: Mapping[str, int]) -> Iterator[Sample]:
    """All that can be counted, also what never was: ``increase()`` misses the first one otherwise."""
    for name in known:
        yield Sample((name,), counts.get(name, 0))


def _up(facts: Facts) -> Iterator[Sample]:
    yield Sample((), float(facts.status is not None))


def _build(_: Facts) -> Iterator[Sample]:
    yield Sample((__version__, platform.python_version()), 1)


def _roles(group: GroupStatus) -> Iterator[Sample]:
    for role in Role:
        yield Sample((role.value,), float(group.role == role))


def _proofs(group: GroupStatus) -> Iterator[Sample]:
    for proof in ("confirmed", "contested", "unknown") if group.proof else ():
        yield Sample((proof,), float(group.proof == proof))


def _lease_remaining(group: GroupStatus) -> float | None:
    if group.lease is None or group.lease.remaining_ms is None:
        return None
    return group.lease.remaining_ms / 1000


def _packets(facts: Facts) -> Iterator[Sample]:
    for interface in facts.status.interfaces if facts.status else ():
        for sample in _counted(DropReason, interface.drops):
            yield Sample((interface.name, *sample.labels), sample.value)


def _links(facts: Facts) -> Iterator[Sample]:
    for interface in facts.status.interfaces if facts.status else ():
        yield Sample((interface.name,), float(interface.up))


def _lag(facts: Facts) -> Iterator[Sample]:
    lag = facts.status.lag if facts.status else LagStatus()
    if facts.status is None:
        return
    for bound, count in lag.buckets:
        yield Sample((f"{bound:g}",), count, "_bucket")
    yield Sample(("+Inf",), lag.count, "_bucket")
    yield Sample((), lag.sum, "_sum")
    yield Sample((), lag.count, "_count")


def _of_mirror(value: Callable[[MirrorStatus, float], float | None]) -> Read:
    def read(facts: Facts) -> Iterator[Sample]:
        number = None if facts.mirror is None else value(facts.mirror, facts.now)
        if number is not None:
            yield Sample((), number)

    return read


def _requests(facts: Facts) -> Iterator[Sample]:
    for (verb, resource, code), count in sorted(facts.mirror.requests.items()) if facts.mirror else ():
        yield Sample((verb, resource, code or "none"), count)


def _api_state(facts: Facts) -> Iterator[Sample]:
    for state in ApiState if facts.mirror else ():
        yield Sample((state.value,), float(facts.mirror is not None and facts.mirror.api is state))


def _worst_lag(facts: Facts) -> Iterator[Sample]:
    if facts.status is not None:
        yield Sample((), facts.status.lag.maximum)


def _of_settings(value: Callable[[SettingsStatus], float]) -> Read:
    def read(facts: Facts) -> Iterator[Sample]:
        if facts.status is not None and facts.status.settings is not None:
            yield Sample((), float(value(facts.status.settings)))

    return read


_GROUP = ("group", "vhid")


def _gauge(name: str, text: str, read: Read, *labels: str) -> Metric:
    return Metric(f"carp_{name}", "gauge", text, labels, read)


def _counter(name: str, text: str, read: Read, *labels: str) -> Metric:
    return Metric(f"carp_{name}_total", "counter", text, labels, read)


TABLE: tuple[Metric, ...] = (
    _gauge("build_info", "1, with the version of the sidecar and of its Python.", _build, "version", "python"),
    _gauge("engine_up", "Whether the engine answered just now; what it counts is missing while it does not.", _up),
    _gauge(
        "role", "1 for the role that this node has in the group, 0 for the others.", _groups(_roles), *_GROUP, "role"
    ),
    _gauge(
        "role_since_timestamp_seconds",
        "When this node took its role, in Unix seconds.",
        _of_group(lambda group: group.since),
        *_GROUP,
    ),
    _counter(
        "transitions",
        "Changes of the role, by reason.",
        _groups(lambda group: _counted(Reason, group.transitions_by_reason)),
        *_GROUP,
        "reason",
    ),
    _gauge(
        "master_known",
        "Whether this node knows a master of the group, be it itself.",
        _of_group(lambda group: group.master is not None),
        *_GROUP,
    ),
    _gauge(
        "rivals",
        "Other masters that this one hears although it has answered them.",
        _of_group(lambda group: len(group.rivals)),
        *_GROUP,
    ),
    _counter("adverts_sent", "Adverts that left this node.", _of_group(lambda group: group.adverts_sent), *_GROUP),
    _counter(
        "adverts_received", "Authentic adverts of others.", _of_group(lambda group: group.adverts_received), *_GROUP
    ),
    _counter(
        "adverts_dropped",
        "Adverts for the group that changed nothing, by reason.",
        _groups(lambda group: _counted(DropReason, group.drops)),
        *_GROUP,
        "reason",
    ),
    _counter(
        "send_errors",
        "Adverts and announcements that could not be sent.",
        _of_group(lambda group: group.send_errors),
        *_GROUP,
    ),
    _counter(
        "announcements",
        "Times that this node told the LAN where the VIPs are (gratuitous ARP, unsolicited NA).",
        _of_group(lambda group: group.announcements),
        *_GROUP,
    ),
    _gauge(
        "takeover",
        "1 for what the LAN said after the last announcement, when it was asked who has the VIPs.",
        _groups(_proofs),
        *_GROUP,
        "state",
    ),
    _gauge(
        "held_back",
        "Whether this node does not take over since somebody answers for a VIP.",
        _of_group(lambda group: group.held_back is not None),
        *_GROUP,
    ),
    _gauge(
        "lease_remaining_seconds",
        "What is left of the kernel's lease of the VIPs; missing where this node has none.",
        _of_group(_lease_remaining),
        *_GROUP,
    ),
    _counter(
        "disturbances",
        "Times that somebody else on this node deleted or changed a VIP while it was leased.",
        _of_group(lambda group: group.disturbances),
        *_GROUP,
    ),
    _gauge("demotion", "By how much this node is demoted, 0 to 255.", _of_group(lambda group: group.demotion), *_GROUP),
    _gauge(
        "demotion_weight",
        "What each source adds to the demotion.",
        _groups(lambda group: (Sample((each.name,), each.weight) for each in group.demotions)),
        *_GROUP,
        "source",
    ),
    _gauge("interface_up", "Whether the interface has a carrier.", _links, "interface"),
    _counter(
        "packets_dropped", "Packets dropped before any group could be told, by reason.", _packets, "interface", "reason"
    ),
    _gauge(
        "label_lag_seconds",
        "For how long Kubernetes has not been told of the newest roles; 0: it has.",
        _of_mirror(lambda mirror, now: mirror.lag(now)),
    ),
    _gauge(
        "label_last_lag_seconds",
        "How long the last change of roles took to be written into Kubernetes.",
        _of_mirror(lambda mirror, _: mirror.last_lag),
    ),
    _counter(
        "api_requests",
        "Requests to the API server, by their HTTP status; none: no answer came.",
        _requests,
        "verb",
        "resource",
        "code",
    ),
    _gauge("api_state", "1 for what the last request to the API server came to.", _api_state, "state"),
    _gauge(
        "missing_rights",
        "Rights that the mirror lacks in Kubernetes; the log and the status name them.",
        _of_mirror(lambda mirror, _: len(mirror.missing_rights)),
    ),
    _counter(
        "events_dropped",
        "Events that nobody was told in Kubernetes, since there were too many.",
        _of_mirror(lambda mirror, _: mirror.events_dropped),
    ),
    _gauge(
        "annotation_refused",
        "1 while the node's annotation carp-sidecar/advskew can't be used and the one before stays in force.",
        _of_mirror(lambda mirror, _: bool(mirror.annotation_refused)),
    ),
    Metric("carp_loop_lag_seconds", "histogram", "How late the engine served its deadlines.", ("le",), _lag),
    _gauge("loop_lag_max_seconds", "The latest that it ever was since its start.", _worst_lag),
    _gauge(
        "config_generation",
        "How many settings have been in force since the start: 1, and one more for each change that was applied.",
        _of_settings(lambda settings: settings.generation),
    ),
    _gauge(
        "config_applied_timestamp_seconds",
        "Since when they are in force, in Unix seconds.",
        _of_settings(lambda settings: settings.applied_at),
    ),
    _gauge(
        "config_refused",
        "1 while newer settings are refused; status and log say why.",
        _of_settings(lambda settings: settings.refused_since is not None),
    ),
)


# The page ------------------------------------------------------------------------------------------------------------

_HEAD = """\
# Metrics

Made from the table in `sidecar/agent/metrics.py` by `make docs`; a test fails where this page and the table differ.

`GET /metrics` on the [HTTP listener](monitoring.md) writes them in Prometheus' text format 0.0.4. They count since the
engine's start. Labels hold what the settings name, or one of a fixed set of words: their number does not grow with what
strangers send. The reasons of transitions are explained in [the protocol](protocol.md).

| metric | type | labels | meaning |
|---|---|---|---|
"""


def markdown() -> str:
    """Return the page of the documentation."""
    return _HEAD + "".join(
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.help} |\n"
        for each in TABLE
    )


if __name__ == "__main__":
    sys.stdout.write(markdown())
