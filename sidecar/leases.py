"""The parent's leases: which kind is in force for each group, taken and extended on the engine's word, given back."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_interface

from sidecar.ipc.messages import Disturbed, LeaseStatus
from sidecar.ipc.plan import GroupPlan
from sidecar.keeper import Keeper, say_kept
from sidecar.net import lease
from sidecar.net.addresses import AddressError, Addresses, IPInterface
from sidecar.net.cutoff import Cutoff, CutoffError, CutoffLostError, tick_ms
from sidecar.net.lease import Kind, Terms, VipLease
from sidecar.net.own_table import OwnTableError
from sidecar.net.virtual_mac import VirtualMacError
from sidecar.observe.moment import boot_time
from sidecar.protocol.types import IPAddress
from sidecar.sentry import Sentry
from sidecar.virtual import Virtual
from sidecar.virtual import sweep as sweep_virtual

log = logging.getLogger(__name__)


class Leases:
    """The VIPs of these groups. ``open`` comes first, then ``place`` for each, then ``begin``."""

    def __init__(
        self,
        groups: Sequence[GroupPlan],
        *,
        cutoff: Cutoff | None = None,
        keeper: Keeper | None = None,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.sentry = Sentry(groups)
        """Watches them, once it was opened."""
        self._groups = {group.name: group for group in groups}
        self._clock = clock
        self._addresses: Addresses | None = None
        self._cutoff = cutoff or Cutoff(_suffix(groups))
        self._tick = tick_ms()
        self._terms: dict[str, Terms] = {}
        self._keeper = keeper or Keeper()
        """Has the addresses whose lease nftables ends."""
        self._coming: dict[str, Terms] = {}
        """Of groups that go on with other settings, until their engine does."""
        self._managed: list[IPAddress] = []
        """What the table of milliseconds was made with."""
        self._placed: dict[str, VipLease] = {}
        self._virtual: dict[str, Virtual] = {}
        """Of the groups that have a virtual MAC."""
        self._ends: dict[str, float] = {}
        """When the lease of each group ends whose VIPs are leased to this node (CLOCK_BOOTTIME)."""
        self._kept: set[str] = set()
        """Groups that are left to their leases at the end."""

    def open(self, addresses: Addresses) -> None:
        """Find out which kind is in force."""
        self._addresses = addresses
        self._keeper.open(addresses)
        self._terms = self._find_terms()

    def _find_terms(self) -> dict[str, Terms]:
        wanted = any(group.lease == "auto" for group in self._groups.values())
        unavailable = self._cutoff.available() if wanted else None
        return {
            name: lease.terms(group, unavailable=unavailable, tick_ms=self._tick)
            for name, group in self._groups.items()
        }

    def place(self, group: str, *, index: int) -> None:
        """Lease the group's VIPs on that interface from now on, or on its own one, which has a virtual MAC, over that.

        Raises VirtualMacError, OwnTableError.
        """
        if self._groups[group].mac == "virtual":
            virtual = self._virtual[group] = Virtual(self._groups[group], nic=index)
            virtual.make()
            index = virtual.index
        self._placed[group] = VipLease(index=index, vips=tuple(map(ip_interface, self._groups[group].vips)))

    def move(self, group: str, *, index: int) -> None:
        """Lease the group's VIPs on another interface from now on, and not on the one before. Raises as ``place``."""
        self.release(group)
        if group in self._virtual:
            self._virtual.pop(group).remove()
        self.sentry.moved(group, index=index)
        self.place(group, index=index)

    def begin(self) -> None:
        """Say what is in force, take over what an earlier life kept for this one, take off what else it left behind.

        Then there is the table of milliseconds, with what was taken over as live.
        """
        self._say(self._terms)
        self._take_over()
        self._sweep(self._groups)
        if self._by_nftables:
            self._install()

    # Other settings ----------------------------------------------------------------------------------------------

    def change(self, groups: Sequence[GroupPlan], *, ended: Collection[str]) -> None:
        """Go on with these groups. Those that ``ended`` have nothing any more; those that begin are ``begun`` next.

        What else is new about the others counts from ``changed`` on.
        """
        for name in ended:
            if name in self._ends:
                self.release(name)
            self._keeper.settle(name)  # its VIPs may be those of a group that begins
            if name in self._virtual:
                self._virtual.pop(name).remove()
            del self._terms[name], self._placed[name]
            self._coming.pop(name, None)
        before = dict(self._terms)
        self._groups = {group.name: group for group in groups}
        found = self._find_terms()
        self._terms = {name: before.get(name, terms) for name, terms in found.items()}
        self._coming = {name: terms for name, terms in found.items() if terms != self._terms[name]}
        self._say({name: terms for name, terms in found.items() if terms != before.get(name)})
        self.sentry.change(groups)

    def begun(self, places: Mapping[str, int]) -> None:
        """Lease the VIPs of these groups, that are new, on the interfaces of these indexes."""
        for name, index in places.items():
            try:
                self.place(name, index=index)
            except (VirtualMacError, OwnTableError) as error:
                log.error("%s", error, extra={"group": name})  # noqa: TRY400 - each bind tries again, and says so
                self._placed[name] = VipLease(index=index, vips=tuple(map(ip_interface, self._groups[name].vips)))
        if places:
            self._sweep(places)
        self._refit()

    def changed(self, group: str) -> None:
        """Lease from now on as the group's new settings have it."""
        if group in self._coming:
            self._terms[group] = self._coming.pop(group)
            self._refit()

    def all_changed(self) -> None:
        """Do so for all groups: no engine runs that would go on with the old settings."""
        for group in list(self._coming):
            self.changed(group)

    def _refit(self) -> None:
        """Have the table of milliseconds for those that it is for now."""
        managed = [vip.ip for group in self._by_nftables for vip in self._placed[group].vips]
        if managed == self._managed:
            return
        self._keeper.settle_all()  # what is to go may still be there, and silent by this table alone
        if managed:
            self._install()
            return
        self._managed = []
        try:
            self._cutoff.remove()
        except CutoffError as error:
            log.warning("%s: it stays, and ends up empty by itself", error)

    def _sweep(self, groups: Collection[str]) -> None:
        """Take off what an earlier life left behind of these groups."""
        kept = [place for group in self._ends for place in self._placed[group].places]
        vips = [ip_interface(vip) for name in groups for vip in self._groups[name].vips]
        try:
            for removed in lease.sweep(self._kernel, vips, spare=kept):
                log.warning("removed %s, which an earlier run left behind", removed)
        except AddressError as error:
            log.warning("%s: what an earlier run left behind stays until its lease ends", error)
        others = [name for name in groups if name not in self._virtual]
        self.hide_all()
        sweep_virtual({(self._placed[name].index, self._groups[name].vhid): name for name in others})
        try:
            for table in self._cutoff.sweep([vip.ip for vip in vips]):
                log.warning("removed nftables table %s, which an earlier run left behind", table)
            if not self._by_nftables:
                self._cutoff.remove()
        except CutoffError as error:
            log.debug("%s", error)  # where there is no nf_tables, there is nothing to sweep either

    def _take_over(self) -> None:
        """Hold what an earlier run left standing for the next one to resume (``on_exit``)."""
        standing = lease.leases(self._kernel)
        for name, group in self._groups.items():
            placed, terms = self._placed[name], self._terms[name]
            # Where the lease is longer than peers wait, one may have taken over already.
            if group.on_exit != "keep" or terms.outlasts_patience or not placed.held(standing):
                continue
            left = float(min(standing[place] for place in placed.places))
            if terms.kind is Kind.NFTABLES:
                left = self._left(placed)
            if left > 0:
                self._ends[name] = self._clock() + left
                log.info("the lease of group %s still stands for %.3f s", name, left, extra={"group": name})

    def _left(self, placed: VipLease) -> float:
        """Return for how many seconds all the VIPs are live."""
        ips = [vip.ip for vip in placed.vips]
        try:
            live = self._cutoff.remaining(ips)
        except CutoffError as error:
            log.warning("%s: what an earlier run kept is not resumed", error)
            return 0.0
        return min(live.get(ip, 0) for ip in ips) / 1000

    def _say(self, found: Mapping[str, Terms]) -> None:
        said: dict[Terms, list[str]] = defaultdict(list)
        for name, terms in found.items():
            said[terms].append(name)
        for terms, names in said.items():
            level = logging.WARNING if terms.why or terms.outlasts_patience else logging.INFO
            log.log(level, "lease of group %s: %s", ", ".join(names), terms)

    def beside(self, work: Callable[[], object]) -> None:
        """Have the thread do something that keeps addresses beside this one."""
        self._keeper.run(work)

    def close(self) -> None:
        """Leave nothing of the tables and the virtual MACs, but for what is kept; ``release_all`` came first."""
        self._keeper.close()
        for group, virtual in self._virtual.items():
            if group not in self._ends and group not in self._kept:
                virtual.remove()
        try:
            if self._by_nftables and not self._kept:
                self._cutoff.remove()
        except CutoffError as error:
            log.warning("%s: it stays, and ends up empty by itself", error)
        self._cutoff.close()
        self.sentry.close()

    # Taken, extended, given back ---------------------------------------------------------------------------------

    def knows(self, group: str) -> bool:
        """Tell whether there is such a group."""
        return group in self._placed

    def holds(self, group: str) -> bool:
        """Tell whether the group's VIPs are leased to this node."""
        return group in self._ends

    def lasts(self, group: str) -> float:
        """Return how many seconds a lease lasts after a renewal."""
        return self._coming.get(group, self._terms[group]).lasts

    def renew(self, group: str, *, until: float) -> str | None:
        """Lease the group's VIPs to this node until that moment, or extend the lease; return None, or why not."""
        error = self._renew(group, until)
        if error is not None:
            self.release(group)
            log.error("cannot lease the VIPs of group %s: %s", group, error, extra={"group": group})
        return error

    def release(self, group: str) -> None:
        """Stop answering for the group's VIPs; one that stays is let go by the kernel when its lease ends."""
        if self._ends.pop(group, None) is None and self.sentry.refusal(group) is not None:
            self._keeper.forget(group)
            return  # it was never bound, and what there is belongs to somebody else
        self.sentry.released(group)
        placed = self._placed[group]
        if self._terms[group].kind is Kind.NFTABLES and self._silence(group):
            self._keeper.take(group, placed)
            return
        self._keeper.forget(group)
        self._keeper.settle(group)
        error = placed.release(self._kernel)
        if error is not None:
            say_kept(group, error)

    def _silence(self, group: str) -> bool:
        """Drop what this node would answer for the group's VIPs; return whether nothing is answered any more."""
        try:
            self._cutoff.release([vip.ip for vip in self._placed[group].vips])
        except CutoffLostError:
            self._put_back()
            return False
        except CutoffError as fault:
            log.error("cannot silence the VIPs of group %s: %s", group, fault, extra={"group": group})  # noqa: TRY400
            return False
        return True

    def hide(self, group: str) -> None:
        """Take a group's virtual MAC off the wire unless it holds its VIPs: after a release, once that was told."""
        if group in self._virtual and group not in self._ends and group not in self._kept:
            self._virtual[group].hide()

    def hide_all(self) -> None:
        """Hide all that hold nothing."""
        for group in self._virtual:
            self.hide(group)

    def disturbed(self, *, down: frozenset[str]) -> list[Disturbed]:
        """Return what the engine has to be told of what was done to VIPs that are held, so that it has them put anew.

        On interfaces that are ``down`` the kernel itself takes VIPs off.
        """
        told = self.sentry.changes(down=down)
        for group in {each.group for each in told} | {
            each.name for each in self._groups.values() if each.interface in down
        }:
            self._keeper.forget(group)
        return told

    def look_at(self, indexes: Collection[int]) -> list[Disturbed]:
        """See what others have done to the virtual MACs among these interfaces, all of which have changed somehow.

        Return what the engine has to be told, so that it has one put right that is down under its VIPs.
        """
        told: list[Disturbed] = []
        for group, virtual in self._virtual.items():
            if virtual.index not in indexes:
                continue
            if group in self._ends:
                told += self.sentry.fell(group) if virtual.fell() else []
            elif group not in self._kept:
                virtual.stay_hidden()
        return told

    def release_all(self) -> list[str]:
        """Stop answering for all VIPs; return the groups that had some."""
        groups = sorted(self._ends)
        for group in groups:
            self.release(group)
        return groups

    def keep(self) -> float:
        """Leave what is to be resumed by a later run (``on_exit``) to its lease: from now on it is not released.

        Return the seconds until the first of these leases ends, infinity where there is none that still stands.
        """
        left = math.inf
        for name in [name for name in self._ends if self._groups[name].on_exit == "keep"]:
            log.info("the VIPs of group %s stay until their lease ends", name, extra={"group": name})
            stands = self._ends.pop(name) - self._clock()
            left = min(left, stands) if stands > 0 else left
            self._kept.add(name)
        return left

    def resumable(self) -> frozenset[str]:
        """Return the groups whose lease survived the engine that died; take off what is left of the others."""
        if self._ends:
            standing = lease.leases(self._kernel)  # once for all: with many VIPs it takes long, and leases are short
            now = self._clock()
            for group in [each for each, end in self._ends.items() if end <= now or not self._held(each, standing)]:
                self.release(group)
        return frozenset(self._ends)

    def next_end(self) -> float:
        """Return in how many seconds the next lease ends, infinity if nothing is leased."""
        return max(0.0, min(self._ends.values(), default=math.inf) - self._clock())

    def expire(self) -> list[str]:
        """Take off what nobody renews any more, whose lease is over; return the groups."""
        now = self._clock()
        groups = [group for group, end in self._ends.items() if end <= now]
        for group in groups:
            log.warning("the lease of group %s has ended", group, extra={"group": group})
            self.release(group)
            self.hide(group)
        return groups

    def status(self, group: str) -> LeaseStatus:
        """Return what there is to say of a group's lease."""
        terms, end = self._terms[group], self._ends.get(group)
        remaining = None if end is None or terms.kind is Kind.OFF else max(0, int((end - self._clock()) * 1000))
        return LeaseStatus(kind=terms.kind.value, why=terms.why, remaining_ms=remaining)

    def _held(self, group: str, standing: Mapping[tuple[int, IPInterface], int]) -> bool:
        return self._placed[group].held(standing)

    def _renew(self, group: str, until: float) -> str | None:
        terms, placed, now = self._terms[group], self._placed[group], self._clock()
        late = terms.standing - (until - now)
        if late >= terms.latest:
            return f"the request came {late:.3f} s after its advert, when the lease was over"
        refusal = None if group in self._ends else self.sentry.refusal(group)
        if refusal is not None:
            return refusal
        error = self._show(group)
        if error is not None:
            return error
        placed = self._placed[group]
        lifetime = terms.lifetime(until - now)
        if terms.kind is Kind.NFTABLES:
            put, error = self._keeper.keep(group, placed, lifetime=lifetime, now=now, until=until)
        else:
            self._keeper.settle(group)
            put, error = True, placed.renew(self._kernel, lifetime=lifetime)
        if error is not None:
            return error
        if put:
            self.sentry.bound(group, index=placed.index, seconds=None if terms.kind is Kind.OFF else lifetime)
        if terms.kind is Kind.NFTABLES:
            error = self._let_answer(placed, until)
        if error is None:
            ends = until if terms.kind is Kind.NFTABLES else now + lifetime
            self._ends[group] = min(ends, until + terms.latest - terms.standing)
        return error

    def _show(self, group: str) -> str | None:
        virtual = self._virtual.get(group)
        if virtual is None:
            return None
        error = virtual.show()
        if error is None and virtual.index != self._placed[group].index:
            self._placed[group] = replace(self._placed[group], index=virtual.index)
        return error

    # The table of milliseconds -----------------------------------------------------------------------------------

    def _let_answer(self, placed: VipLease, until: float) -> str | None:
        vips = [vip.ip for vip in placed.vips]
        try:
            try:
                self._cutoff.renew(vips, self._milliseconds(until))
            except CutoffLostError:
                self._put_back()
                self._cutoff.renew(vips, self._milliseconds(until))
        except CutoffError as error:
            return str(error)
        return None

    def _milliseconds(self, until: float) -> int:
        """Return what is left until then, in whole ticks, as the kernel counts it: so the same request serves often."""
        return int((until - self._clock()) * 1000 // self._tick * self._tick)

    def _put_back(self) -> None:
        log.warning("nftables table %s was gone, as after `nft flush ruleset`: it is put back", self._cutoff.table)
        self._install()

    def _install(self) -> None:
        """Make the table anew, with what is leased as live."""
        vips: list[IPAddress] = []
        live: dict[IPAddress, int] = {}
        for group in self._by_nftables:
            ips = [vip.ip for vip in self._placed[group].vips]
            vips += ips
            if group in self._ends:
                live |= dict.fromkeys(ips, self._milliseconds(self._ends[group]))
        self._managed = vips
        try:
            self._cutoff.install(vips, live=live)
        except CutoffError as error:
            log.error("%s: the VIPs cannot be leased", error)  # noqa: TRY400 - each renewal tries again

    @property
    def _by_nftables(self) -> list[str]:
        return [group for group, terms in self._terms.items() if terms.kind is Kind.NFTABLES]

    @property
    def _kernel(self) -> Addresses:
        assert self._addresses is not None  # noqa: S101 - narrowing; open() came first
        return self._addresses


def _suffix(groups: Sequence[GroupPlan]) -> str:
    """Return what tells the table of this sidecar from others on the node: nobody else has this vhid there."""
    return f"{groups[0].interface}-{groups[0].vhid}" if groups else ""
