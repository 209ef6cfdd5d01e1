"""What an API server has counted, read from its own metrics. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
ITS_OWN = frozenset({"PUT leases", "DELETE leases"})
"""The API server renews a Lease in kube-system that tells of itself, and clears away those of others that are gone; the
mirror neither puts nor deletes Leases."""


def counted(metrics: str) -> Counter[str]:
    """Return how many requests for objects it has answered since it began, by verb and resource: "PATCH pods/status".

    A watch counts when it ends.
    """
    return _sum(metrics, "apiserver_request_total")


def watches(metrics: str) -> Counter[str]:
    """Return how many watches are open, by resource."""
    running = _sum(metrics, "apiserver_longrunning_requests")
    return Counter({name.partition(" ")[2]: n for name, n in running.items() if name.startswith("WATCH ") and n})


def writes(requests: Mapping[str, int]) -> dict[str, int]:
    """Return those that change something, but for what the API server does by itself."""
    return {name: n for name, n in requests.items() if n and name.partition(" ")[0] in _WRITES and name not in ITS_OWN}


def between(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    """Return what was added, by name; raises ValueError where the API server began anew in between."""
    added = {name: n - before[name] for name, n in sorted(after.items()) if n != before[name]}
    if any(n < 0 for n in added.values()) or before.keys() - after.keys():
        raise ValueError("the API server counts from zero again: it was restarted")
    return added


def _sum(metrics: str, name: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for labels, value in _lines(metrics, name):
        if labels["resource"]:
            subresource = f"/{labels['subresource']}" if labels["subresource"] else ""
            found[f"{labels['verb']} {labels['resource']}{subresource}"] += int(value)
    return found


def _lines(metrics: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    for line in metrics.splitlines():
        if line.startswith(f"{name}{{"):
            text, _, value = line.rpartition(" ")
            yield dict(_LABEL.findall(text)), float(value)
