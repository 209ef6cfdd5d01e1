"""A namespace of pods in memory, as ``PodApi`` sees it, with failures on demand and every write on record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sidecar.agent.api import ApiError
from sidecar.agent.desired import Metadata, Pod


@dataclass
class FakePods:
    own_name: str
    pods: dict[str, Pod] = field(default_factory=dict)
    failures: list[ApiError] = field(default_factory=list)
    """Raised by the next calls, one each."""
    forbidden: frozenset[str] = frozenset()
    """Verbs that answer 403."""
    writes: list[tuple[str, Metadata]] = field(default_factory=list)
    calls: int = 0
    _version: int = 100

    def add(self, name: str, labels: Mapping[str, str] = {}, annotations: Mapping[str, str] = {}) -> None:
        self._version += 1
        self.pods[name] = Pod(
            name=name, resource_version=str(self._version), labels=dict(labels), annotations=dict(annotations)
        )

    def masters(self, label: str = "carp-role") -> list[str]:
        return sorted(name for name, pod in self.pods.items() if pod.labels.get(label) == "master")

    def _called(self, verb: str) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        if verb in self.forbidden:
            raise ApiError(f"the right to {verb} pods is missing (403)", 403)

    async def own(self) -> Pod:
        self._called("get")
        return self._find(self.own_name)

    async def labelled(self, selector: str) -> list[Pod]:
        self._called("list")
        key, _, value = selector.partition("=")
        return [pod for pod in self.pods.values() if pod.labels.get(key) == value]

    async def patch(self, name: str, metadata: Metadata, *, resource_version: str | None = None) -> None:
        self._called("patch")
        pod = self._find(name)
        if resource_version is not None and resource_version != pod.resource_version:
            raise ApiError("the API server answers 409: the object has been modified", 409)
        self._version += 1
        self.writes.append((name, metadata))
        self.pods[name] = replace(
            pod,
            resource_version=str(self._version),
            labels={**pod.labels, **metadata.labels},
            annotations={**pod.annotations, **metadata.annotations},
        )

    def _find(self, name: str) -> Pod:
        if name not in self.pods:
            raise ApiError(f"pod {name} is not there (404)", 404)
        return self.pods[name]
