"""What follows from what was measured, and what kube-vip's own settings ask for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bench.mirror.measure import Result, Used
from sidecar.agent.follow import LONGEST_WATCH, SHORTEST_WATCH

_HOUR = 3600.0
_JITTER = 1.2
"""client-go's leaderelection.JitterFactor: a candidate waits for the retry period, and up to so much of it more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A setting by which kube-vip renews the Lease that it elects by; in whole seconds."""

    versions: str
    duration: int
    deadline: int
    retry: int

    @property
    def writes(self) -> float:
        """Updates in an hour: the leader makes one each retry period (LeaderElector.renew)."""
        return _HOUR / self.retry

    @property
    def reads(self) -> float:
        """Reads in an hour by each candidate (LeaderElector.acquire)."""
        return _HOUR / (self.retry * (1 + _JITTER / 2))


RENEWALS = (
    Renewal(versions="since 1.1.0", duration=15, deadline=10, retry=2),
    Renewal(versions="up to 1.0.4", duration=5, deadline=3, retry=1),
)
"""kube-vip's defaults: cmd/kube-vip.go, --leaseDuration, --leaseRenewDuration and --leaseRetry."""

LISTS = _HOUR / ((SHORTEST_WATCH + LONGEST_WATCH) / 2)
"""How often one of our agents lists its pods anew in an hour, and begins another watch, on average."""


def share(used: Used) -> float:
    """Return the CPU of the API server and etcd together, in % of a core."""
    return sum(used.cpu.values()) / used.seconds * 100


def cost(used: Used, times: int, *, beside: Used) -> float:
    """Return the CPU milliseconds of one of so many, less what the same time costs anyway."""
    return (
        (sum(used.cpu.values()) / used.seconds - sum(beside.cpu.values()) / beside.seconds) * used.seconds / times * 1e3
    )


def load(renewal: Renewal, result: Result, *, candidates: int) -> float:
    """Return the CPU of the API server and etcd for one Lease, in % of a core, by what one request costs."""
    times = result.size.renewals
    update, get = (cost(used, times, beside=result.empty) for used in (result.update, result.get))
    return (renewal.writes * update + candidates * renewal.reads * get) / 1e3 / _HOUR * 100
