"""A group's virtual MAC as the parent keeps it: a macvlan that bears the VIPs, a NIC that is silent about them, and
silence of the macvlan about all else."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address, ip_interface

from sidecar.ipc.plan import GroupPlan
from sidecar.net.own_table import OwnTableError
from sidecar.net.virtual_arp import REFRESH, VirtualArp
from sidecar.net.virtual_mac import VirtualMac, VirtualMacError, leftovers
from sidecar.net.virtual_mld import VirtualMld
from sidecar.observe.moment import boot_time

log = logging.getLogger(__name__)

_NOBODY = IPv4Address("0.0.0.0")  # noqa: S104 - no address to bind to: the sender of an ARP probe (RFC 5227)


class Virtual:
    """``make`` comes first; then it is shown while its group is master, and hidden at all other times."""

    def __init__(self, group: GroupPlan, *, nic: int) -> None:
        self._group = group
        self._mac = VirtualMac(nic=nic, vhid=group.vhid)
        sources = (ip_address(path.source) for path in group.paths)
        own = next((source for source in sources if isinstance(source, IPv4Address)), _NOBODY)
        every = [ip_interface(vip).ip for vip in group.vips]
        vips = [vip for vip in every if isinstance(vip, IPv4Address)]
        name = f"{group.interface}-{group.vhid}"
        self._arp = VirtualArp(name, index=nic, own=own, vips=vips) if vips else None
        self._mld = VirtualMld(name) if len(vips) < len(every) else None
        self._held_at = -math.inf
        self._shown = False
        """Shown, and neither hidden nor known to have fallen since."""
        self._fell = False
        """Somebody set it down, which ``show`` has put right and ``fell`` has not told yet."""

    @property
    def index(self) -> int:
        """The index of the interface that bears the VIPs."""
        return self._mac.index

    def make(self) -> None:
        """Make all of it, hidden, or adopt what an earlier run left. Raises VirtualMacError, OwnTableError."""
        self._make_mac()
        self._hold()

    def show(self) -> str | None:
        """Have the MAC on the wire, as before each lease and each renewal; return None, or why it is not there."""
        try:
            if not self._mac.stands:
                log.warning("somebody removed %s, the virtual MAC of group %s: it is made anew", *self._named)
                self._shown = False
                self._make_mac()
            if boot_time() - self._held_at >= REFRESH:
                self._hold()
            was_down = self._mac.set_up(up=True)
        except (VirtualMacError, OwnTableError) as error:
            return str(error)
        self._fell = self._fell or (self._shown and was_down)
        self._shown = True
        return None

    def fell(self) -> bool:
        """Tell whether somebody has set it down since it was shown; each time is told once."""
        is_down = self._shown and self._mac.is_up is False
        fell, self._fell = self._fell or is_down, False
        self._shown = self._shown and not is_down
        return fell

    def hide(self) -> None:
        """Take the MAC off the wire."""
        self._shown = self._fell = False
        try:
            self._mac.set_up(up=False)
        except VirtualMacError as error:
            log.error("%s", error, extra={"group": self._group.name})  # noqa: TRY400 - for the operator

    def stay_hidden(self) -> None:
        """Hide it again if somebody has set it up."""
        if self._mac.is_up:
            log.warning("%s, the virtual MAC of group %s, was up without its VIPs: it is set down again", *self._named)
            self.hide()

    def remove(self) -> None:
        """Leave nothing of it."""
        try:
            self._mac.remove()
            if self._arp is not None:
                self._arp.remove()
            if self._mld is not None:
                self._mld.remove()
        except (VirtualMacError, OwnTableError) as error:
            log.warning("%s", error, extra={"group": self._group.name})

    @property
    def _named(self) -> tuple[str, str]:
        return self._mac.name, self._group.name

    def _make_mac(self) -> None:
        self._mac.make()
        if self._mld is not None:
            self._mld.hold(index=self._mac.index)

    def _hold(self) -> None:
        if self._arp is not None:
            self._arp.hold()
        self._held_at = boot_time()


def sweep(groups: Mapping[tuple[int, int], str]) -> None:
    """Remove what an earlier run left of groups that have no virtual MAC now, by NIC's index and vhid."""
    for mac in leftovers(groups):
        try:
            mac.remove()
        except VirtualMacError as error:
            log.warning("%s, which an earlier run left behind", error)
        else:
            log.warning("removed the virtual MAC of vhid %d, which an earlier run left behind", mac.vhid)
