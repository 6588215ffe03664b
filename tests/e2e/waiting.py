"""Waiting for conditions: never for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time


class Late(AssertionError):
    """A condition did not come true in time."""


async def eventually(condition, deadline: float, what: str, every: float = 0.02):
    """Calls `condition` (plain or async) until it returns something true, and returns that.

    An exception counts as "not yet"; the last one is shown when `deadline` seconds have passed.
    """
    end = time.monotonic() + deadline
    last = None
    while True:
        try:
            result = condition()
            if inspect.isawaitable(result):
                result = await asyncio.wait_for(result, max(0.1, end - time.monotonic()))
            if result:
                return result
            last = None
        except (Exception, AssertionError) as error:  # noqa: BLE001
            last = error
        if time.monotonic() > end:
            raise Late(f"not within {deadline} s: {what}" + (f" (last: {last!r})" if last else "")) from last
        await asyncio.sleep(every)
