"""A small nftables table of our own beside the lease's: made anew as a whole, and deleted as a whole."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from sidecar.net import nft
from sidecar.net.nft import Message, Nft, NftError


class OwnTableError(Exception):
    """The kernel refused; the message says what and why."""


class OwnTable:
    """The table ``name`` of one family. ``missing`` says what a kernel lacks that has no such thing."""

    __slots__ = ("_family", "_missing", "_nft", "name")

    def __init__(self, name: str, *, family: int, missing: str) -> None:
        self.name = name
        self._family = family
        self._missing = missing
        self._nft = Nft()

    def make(self, content: Sequence[Message]) -> None:
        """Replace the table by one with this content, in one step. Raises OwnTableError."""
        self._run([*self._removal(), self.message(nft.NEWTABLE, "the table"), *content])

    def remove(self) -> None:
        """Delete the table, if there is one, and close the socket. Raises OwnTableError."""
        try:
            self._run([*self._removal()])
        finally:
            self._nft.close()

    def chain(self, name: str, *, hook: int, priority: int) -> Message:
        """Return the message that makes a chain at a hook of netfilter."""
        at = nft.nested(4, nft.number(1, hook), nft.number(2, priority))
        return self.message(nft.NEWCHAIN, "the chain", nft.text(3, name) + at + nft.text(7, "filter"))

    def rule(self, chain: str, expressions: Sequence[bytes]) -> Message:
        """Return the message that adds a rule to a chain."""
        return self.message(nft.NEWRULE, "a rule", nft.text(2, chain) + nft.nested(4, *expressions))

    def message(self, kind: int, what: str, attributes: bytes = b"") -> Message:
        """Return a message about the table, or about something in it."""
        return Message(kind=kind, family=self._family, attributes=nft.text(1, self.name) + attributes, what=what)

    def _removal(self) -> Iterator[Message]:
        for kind in (nft.NEWTABLE, nft.DELTABLE):  # the kernel refuses to delete what is not there
            yield self.message(kind, "the table")

    def _run(self, messages: Sequence[Message]) -> None:
        try:
            self._nft.run(nft.batch(messages))
        except NftError as error:
            fault = self._missing if error.code == errno.EOPNOTSUPP else f"refused {error}"
            raise OwnTableError(f"nftables table {self.name}: {fault}") from error
        except OSError as error:
            raise OwnTableError(f"nftables table {self.name}: {error.strerror}") from error
