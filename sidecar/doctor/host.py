"""Readers of this machine: capabilities, sysctls, clock, CPU limit, nftables, address lifetimes."""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Mapping
from ipaddress import IPv4Interface
from pathlib import Path

from sidecar import privileges, realtime
from sidecar.doctor.facts import Host, Nic
from sidecar.ipc.plan import GroupPlan
from sidecar.net.addresses import AddressError, Addresses
from sidecar.net.cutoff import Cutoff
from sidecar.net.virtual_mac import leftovers

IPVS_INTERFACE = "kube-ipvs0"
LIFETIME_ENDS_WITHIN = 4.0
"""Seconds; a lifetime of one second ended after 2.2 s where it was measured."""
_TEST_ADDRESS = IPv4Interface("127.112.112.112/32")
"""Loopback answers for all of 127.0.0.0/8 anyway."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEX_BYTES = 512
_CONF = Path("/proc/sys/net/ipv4/conf")
_UNLIMITED = ("max", "-1")


def read(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Host:
    """Look at the machine. It takes as long as an address with a lifetime of a second lives."""
    with Addresses() as kernel:
        lifetimes = _lifetimes(kernel)
        ipvs = [link.index for link in kernel.links() if link.name == IPVS_INTERFACE]
        services = frozenset(each.interface.ip for each in kernel.addresses() if each.index in ipvs)
    return Host(
        missing_capabilities=privileges.missing_capabilities(),
        cutoff=_cutoff(),
        lifetimes=lifetimes,
        clock_synchronised=_clock_synchronised(),
        realtime=realtime.refused(),
        cpu_cores=cpu_cores((proc / "self/cgroup").read_text(), cgroups),
        ipvs=services if ipvs else None,
    )


def nics(groups: tuple[GroupPlan, ...], *, conf: Path = _CONF) -> Mapping[str, Nic]:
    """Look at the groups' interfaces."""
    wanted = {group.interface for group in groups}
    with Addresses() as kernel:
        own = [address for address in kernel.addresses() if not address.leased]
        return {
            link.name: Nic(
                name=link.name,
                up=link.up,
                addresses=tuple(each.interface for each in own if each.index == link.index),
                arp_ignore=_sysctl(conf, link.name, "arp_ignore"),
                rp_filter=_sysctl(conf, link.name, "rp_filter"),
            )
            for link in kernel.links()
            if link.name in wanted
        }


def virtual_macs(groups: tuple[GroupPlan, ...]) -> tuple[str, ...]:
    """Return the names of the macvlans that are there for these groups."""
    indexes = {name: index for index, name in socket.if_nameindex()}
    places = {(indexes[group.interface], group.vhid) for group in groups if group.interface in indexes}
    return tuple(sorted(mac.name for mac in leftovers(places)))


def _sysctl(conf: Path, interface: str, name: str) -> int:
    """Return what is in force: the higher of the interface's own and the one for all (ip-sysctl.rst)."""
    return max(int((conf / each / name).read_text()) for each in ("all", interface))


def _cutoff() -> str | None:
    cutoff = Cutoff()
    try:
        return cutoff.available()
    finally:
        cutoff.close()


def _lifetimes(kernel: Addresses) -> str | None:
    index = next((link.index for link in kernel.links() if link.name == "lo"), None)
    if index is None:
        return "not tried: there is no loopback interface"

    def is_there() -> bool:
        return any(each.interface.ip == _TEST_ADDRESS.ip for each in kernel.addresses())

    try:
        kernel.put(index=index, vip=_TEST_ADDRESS, lifetime=1)
        ends = time.monotonic() + LIFETIME_ENDS_WITHIN
        while is_there():
            if time.monotonic() > ends:
                kernel.take(index=index, vip=_TEST_ADDRESS)
                return f"an address with a lifetime of 1 s was still there after {LIFETIME_ENDS_WITHIN:.0f} s"
            time.sleep(0.1)
    except AddressError as error:
        return f"not tried: {error}"
    return None


def _clock_synchronised() -> bool | None:
    """Ask adjtimex, which with modes 0 changes nothing; None where a seccomp profile does not let it be asked."""
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR


def cpu_cores(membership: str, cgroups: Path) -> float | None:
    """Return the cores that the tightest CPU limit of these cgroups leaves (cgroups(7); /proc/self/cgroup)."""
    limits = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += [_quota(folder / "cpu.max") for folder in _upwards(cgroups, path)]
        elif "cpu" in controllers.split(","):
            for mount in (cgroups / controllers, cgroups / "cpu"):
                limits += [_quota(folder / "cpu.cfs_quota_us") for folder in _upwards(mount, path)]
    return min((limit for limit in limits if limit is not None), default=None)


def _upwards(root: Path, path: str) -> list[Path]:
    folder = root / path.lstrip("/")
    return [each for each in (folder, *folder.parents) if each.is_relative_to(root)]


def _quota(file: Path) -> float | None:
    """Read cgroup v2's cpu.max (`quota period`) or v1's quota, whose period is beside it."""
    try:
        quota, *period = file.read_text().split()
        if quota in _UNLIMITED:
            return None
        return int(quota) / int(period[0] if period else file.with_name("cpu.cfs_period_us").read_text())
    except OSError:
        return None
