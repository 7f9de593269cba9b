"""Nothing may be left behind: no task, and no failure that nobody has heard of."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.fakes.origin import settled

DEADLINE = 30.0


@asynccontextmanager
async def quiet() -> AsyncIterator[None]:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    async with asyncio.timeout(DEADLINE):
        yield
        await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        gc.collect(1)  # what is left of a failure is young
        await asyncio.sleep(0)
    assert not said, said[0]["message"]
