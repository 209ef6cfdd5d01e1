"""Things that run while a test looks on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any


@contextlib.asynccontextmanager
async def together(*works: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Have them run while inside, and cancel them then; a fault of one is raised at the end."""
    tasks = [asyncio.create_task(each) for each in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for each in ended:
        if each is not None and not isinstance(each, asyncio.CancelledError):
            raise each  # type: ignore[misc]
