"""An executor without threads: what is submitted is done at once, or when it is told to go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class FakeExecutor(Executor):
    """``stalled``: nothing is done until ``go_on``, as where the kernel holds the one thread up."""

    def __init__(self) -> None:
        self.stalled = False
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        if not self.stalled:
            self.go_on()
        return future

    def go_on(self) -> None:
        """Do all that waits, in its order."""
        self.stalled = False
        while self._waiting:
            future, work = self._waiting.popleft()
            future.set_result(work())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        self.go_on()
