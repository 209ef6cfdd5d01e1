"""A kernel's addresses in memory, as ``Addresses`` shows them, which refuses what it is told to refuse."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.net.addresses import Address, AddressError, Addresses, IPInterface


@dataclass
class FakeAddresses(Addresses):
    """``bound`` are (interface index, VIP) with their lifetimes; ``others`` are the node's own."""

    bound: dict[tuple[int, IPInterface], int] = field(default_factory=dict)
    others: list[Address] = field(default_factory=list)
    refuses_to_put: set[IPInterface] = field(default_factory=set)
    refuses_to_take: set[IPInterface] = field(default_factory=set)
    calls: list[tuple[str, IPInterface]] = field(default_factory=list)

    def addresses(self) -> tuple[Address, ...]:
        leased = (
            Address(index=index, interface=vip, leased=True, left=left) for (index, vip), left in self.bound.items()
        )
        return (*self.others, *leased)

    def put(self, *, index: int, vip: IPInterface, lifetime: int) -> None:
        self.calls.append(("put", vip))
        if vip in self.refuses_to_put:
            raise AddressError(f"the kernel refused {vip}")
        self.bound[index, vip] = lifetime

    def take(self, *, index: int, vip: IPInterface) -> None:
        self.calls.append(("take", vip))
        if vip in self.refuses_to_take:
            raise AddressError(f"the kernel kept {vip}")
        self.bound.pop((index, vip), None)
