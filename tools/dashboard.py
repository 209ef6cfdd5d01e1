"""The Grafana dashboard, made from a table of panels: ``python -m tools.dashboard`` writes it into the chart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "charts/carp-sidecar/files/dashboard.json"

_THESE = 'job=~"$job",namespace=~"$namespace",group=~"$group"'
_NODES = 'job=~"$job",namespace=~"$namespace"'
_BY = "by (namespace, group, vhid)"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: its queries with their legends. ``width`` is of 24 columns."""

    title: str
    text: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    defaults: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    instant: bool = False


def _steps(*steps: tuple[float | None, str]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def _words(**words: tuple[str, str]) -> list[dict[str, Any]]:
    """Map numbers to words and colours; a number is given as ``_N``."""
    options = {
        number.removeprefix("_"): {"text": text, "color": colour, "index": index}
        for index, (number, (text, colour)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


PANELS: tuple[Panel, ...] = (
    Panel(
        title="Masters per group",
        text="One is right. None: nobody holds the VIPs. Two: they do not hear each other.",
        queries=((f'sum {_BY} (carp_role{{{_THESE},role="master"}})', "{{group}} (vhid {{vhid}})"),),
        kind="stat",
        width=8,
        height=6,
        defaults={"thresholds": _steps((None, "red"), (1, "green"), (2, "red")), "color": {"mode": "thresholds"}},
        options={"colorMode": "background", "graphMode": "none", "textMode": "value_and_name"},
        instant=True,
    ),
    Panel(
        title="Roles",
        text="Who was what, and when.",
        queries=(
            (
                f'sum by (group, vhid, instance) (2 * carp_role{{{_THESE},role="master"}}) '
                f'+ sum by (group, vhid, instance) (carp_role{{{_THESE},role="backup"}})',
                "{{group}} {{instance}}",
            ),
        ),
        kind="state-timeline",
        width=16,
        height=6,
        defaults={
            "mappings": _words(_2=("master", "green"), _1=("backup", "blue"), _0=("out", "orange")),
            "custom": {"fillOpacity": 80},
        },
        options={"mergeValues": True, "showValue": "auto"},
    ),
    Panel(
        title="Transitions",
        text="Changes of roles, by reason.",
        queries=((f"sum by (group, reason) (increase(carp_transitions_total{{{_THESE}}}[$__rate_interval])) > 0",
                  "{{group}} {{reason}}"),),
        defaults={"custom": {"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}}},
    ),
    Panel(
        title="Two masters, contested VIPs",
        text="Rivals that go on although they were answered; VIPs that somebody else answers for.",
        queries=(
            (f"carp_rivals{{{_THESE}}} > 0", "rivals {{group}} {{instance}}"),
            (f'carp_takeover{{{_THESE},state="contested"}} > 0', "contested {{group}} {{instance}}"),
            (f"carp_held_back{{{_THESE}}} > 0", "held back {{group}} {{instance}}"),
        ),
    ),
    Panel(
        title="Adverts",
        text="Sent by the master, heard by the backups.",
        queries=(
            (f"rate(carp_adverts_sent_total{{{_THESE}}}[$__rate_interval])", "sent {{group}} {{instance}}"),
            (f"rate(carp_adverts_received_total{{{_THESE}}}[$__rate_interval])", "heard {{group}} {{instance}}"),
        ),
        unit="pps",
    ),
    Panel(
        title="Dropped",
        text="Adverts that changed nothing, and packets for no group of ours, by reason.",
        queries=(
            (f"sum by (group, reason) (rate(carp_adverts_dropped_total{{{_THESE}}}[$__rate_interval])) > 0",
             "{{group}} {{reason}}"),
            (f"sum by (interface, reason) (rate(carp_packets_dropped_total{{{_NODES}}}[$__rate_interval])) > 0",
             "{{interface}} {{reason}}"),
        ),
        unit="pps",
    ),
    Panel(
        title="Demotion",
        text="What makes a node a worse master.",
        queries=((f"carp_demotion_weight{{{_THESE}}}", "{{group}} {{instance}} {{source}}"),),
        defaults={"custom": {"fillOpacity": 30, "stacking": {"mode": "normal"}}},
    ),
    Panel(
        title="Lease",
        text="What is left of the kernel's lease of the VIPs: where it ends, the node stops answering.",
        queries=((f"carp_lease_remaining_seconds{{{_THESE}}}", "{{group}} {{instance}}"),),
        unit="s",
    ),
    Panel(
        title="Announcements",
        text="Times that the LAN was told where the VIPs are: often after a takeover, then once a minute.",
        queries=((f"increase(carp_announcements_total{{{_THESE}}}[$__rate_interval])", "{{group}} {{instance}}"),),
    ),
    Panel(
        title="How late the engine is",
        text="99 % of its deadlines were met within this time.",
        queries=(
            ("histogram_quantile(0.99, sum by (le, instance) "
             f"(rate(carp_loop_lag_seconds_bucket{{{_NODES}}}[$__rate_interval])))", "{{instance}}"),
        ),
        unit="s",
    ),
    Panel(
        title="Labels behind",
        text="For how long Kubernetes has not been told of the newest roles.",
        queries=(
            (f"carp_label_lag_seconds{{{_NODES}}}", "{{instance}}"),
            (f"carp_label_last_lag_seconds{{{_NODES}}}", "last change {{instance}}"),
        ),
        unit="s",
    ),
    Panel(
        title="Requests to the API server",
        text="By verb and HTTP status; none: no answer came. In steady state nothing is written.",
        queries=(
            (f"sum by (verb, resource, code) (rate(carp_api_requests_total{{{_NODES}}}[$__rate_interval])) > 0",
             "{{verb}} {{resource}} {{code}}"),
            (f"carp_missing_rights{{{_NODES}}} > 0", "rights missing {{instance}}"),
        ),
        unit="reqps",
    ),
    Panel(
        title="Errors of sending, links, disturbances",
        text="Adverts and announcements that did not leave; interfaces without carrier; VIPs that somebody deleted.",
        queries=(
            (f"increase(carp_send_errors_total{{{_THESE}}}[$__rate_interval]) > 0", "errors {{group}} {{instance}}"),
            (f"1 - carp_interface_up{{{_NODES}}} > 0", "no carrier {{interface}} {{instance}}"),
            (f"increase(carp_disturbances_total{{{_THESE}}}[$__rate_interval]) > 0", "disturbed {{group}}"),
        ),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "carp-sidecar",
        "title": "CARP sidecar",
        "description": "Who holds the virtual IPs, and why they moved. Made by tools/dashboard.py.",
        "tags": ["carp", "network"],
        "schemaVersion": 39,
        "timezone": "browser",
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": [_datasource(), *map(_variable, ("job", "namespace", "group"))]},
        "panels": _placed(),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"}


def _variable(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values(carp_role, {name})", "refId": name},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _placed() -> list[dict[str, Any]]:
    placed: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(PANELS, 1):
        if x + panel.width > _WIDTH:
            x, y = 0, y + placed[-1]["gridPos"]["h"]
        placed.append(_panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}})
        x += panel.width
    return placed


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, **panel.defaults}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, **panel.options},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend,
                "instant": panel.instant,
                "range": not panel.instant,
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
