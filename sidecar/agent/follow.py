"""Follows some objects: a list, then a watch from there on; what is known of them is always at hand.

No polling: the server tells. When a watch's time is over, after some minutes, everything is listed anew, in case that
somebody in between told a lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sidecar.agent.backoff import Backoff
from sidecar.agent.errors import ApiError

SHORTEST_WATCH = 300
LONGEST_WATCH = 600
"""Seconds; at random in between, so that not all agents list at once."""
_SOUND = 5.0
"""Seconds after which a watch that ends counts as one that worked."""
_GONE = 410


class Object(Protocol):
    """What has a name, one life, and a version."""

    @property
    def name(self) -> str:
        """Its name in the namespace."""
        ...

    @property
    def uid(self) -> str:
        """What tells it from another of that name."""
        ...

    @property
    def resource_version(self) -> str:
        """What changes with each write."""
        ...


T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which objects of the namespace: a label selector and a field selector, "" for all."""

    labels: str = ""
    fields: str = ""


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """Objects as they were at a version of the whole, from which a watch goes on."""

    items: tuple[T, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One event of a watch: ``item`` is there now, or was until now if ``gone``. None: only ``version`` went on.

    "" is no version: the watch has just begun.
    """

    version: str
    item: T | None = None
    gone: bool = False


class Source(Protocol[T]):
    """Where objects of one kind are read. Both raise ApiError."""

    async def list(self, which: Which) -> Listed[T]:
        """Read them as they are now."""
        ...

    def watch(self, which: Which, version: str, *, seconds: int) -> AsyncIterator[Change[T]]:
        """Tell what changes after ``version``, for so long; an ApiError of status 410 says that it is too old."""
        ...


class Follower(Generic[T]):
    """What is known of some objects. ``items`` is None until the first list was read.

    ``changed`` is called after every change, ``failed`` with what is wrong, or None once it works (again).
    """

    def __init__(
        self,
        api: Source[T],
        which: Which,
        *,
        changed: Callable[[], None],
        failed: Callable[[ApiError | None], None],
        jitter: Callable[[], float],
    ) -> None:
        self.which = which
        self.items: dict[str, T] | None = None
        self._api = api
        self._changed = changed
        self._failed = failed
        self._jitter = jitter
        self._backoff = Backoff(jitter)
        self._version = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            began = asyncio.get_running_loop().time()
            error: ApiError | None = None
            try:
                await self._turn()
                continue_at_once = True
            except ApiError as caught:
                error = caught
                continue_at_once = False
                if error.status != _GONE:
                    self._failed(error)
            lived = asyncio.get_running_loop().time() - began
            if lived >= _SOUND:
                self._backoff.settle()
            if continue_at_once and lived >= _SOUND:
                continue
            await asyncio.sleep(self._backoff.after(error))

    async def _turn(self) -> None:
        """Read from where we are until the watch ends. Raises ApiError."""
        if not self._version:
            await self._list()
        seconds = SHORTEST_WATCH + round(self._jitter() * (LONGEST_WATCH - SHORTEST_WATCH))
        ends = asyncio.get_running_loop().time() + seconds
        # One that begins and breaks off at once, again and again, does not work.
        sound = asyncio.get_running_loop().call_later(_SOUND, self._failed, None)
        try:
            async for change in self._api.watch(self.which, self._version, seconds=seconds):
                self._take(change)
        except ApiError as error:
            if error.status == _GONE:
                self._version = ""
            raise
        finally:
            sound.cancel()
        if asyncio.get_running_loop().time() >= ends - 1:
            self._version = ""

    async def _list(self) -> None:
        listed = await self._api.list(self.which)
        self.items = {item.name: item for item in listed.items}
        self._version = listed.version
        self._failed(None)
        self._changed()

    def _take(self, change: Change[T]) -> None:
        self._version = change.version or self._version
        if change.item is None or self.items is None:
            return
        if change.gone:
            self.items.pop(change.item.name, None)
        elif _is_older(change.item, self.items.get(change.item.name)):
            return
        else:
            self.items[change.item.name] = change.item
        self._changed()

    def wrote(self, item: T) -> None:
        """Note how an object is after a write of ours; the watch tells it a little later."""
        known = None if self.items is None else self.items.get(item.name)
        if self.items is not None and known is not None and known.uid == item.uid and not _is_older(item, known):
            self.items[item.name] = item


def _is_older(item: Object, known: Object | None) -> bool:
    """Tell whether a pod's version precedes the one that we know; versions that are no numbers cannot be compared."""
    if known is None or known.uid != item.uid:
        return False
    return (
        item.resource_version.isdigit()
        and known.resource_version.isdigit()
        and (int(item.resource_version) < int(known.resource_version))
    )
