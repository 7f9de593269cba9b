"""Shortcuts -> what they lead to: asked for one by one, a few at a time, for Drive tells nothing of it in listings."""

import asyncio

from playhead.errors import Denied, NotFound
from playhead.origins.drive.calls import Calls
from playhead.origins.drive.items import SHORTCUT, Item, item
from playhead.origins.drive.items import through as shown_as

AT_ONCE = 8  # that are followed at a time


async def followed(calls: Calls, items: list[Item]) -> list[Item]:
    """The same items, with what shortcuts lead to."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            items[number] = await through(calls, items[number])

    tasks = [asyncio.create_task(one(number)) for number, each in enumerate(items) if each.type == SHORTCUT]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
    return items


async def through(calls: Calls, each: Item) -> Item:
    """A shortcut with what it leads to; itself where that is gone, and anything else."""
    if each.type != SHORTCUT or each.target is None:
        return each
    try:
        target = item(await calls.told(each.target, each.key), calls.by)
    except (NotFound, Denied):
        return each
    return shown_as(each, target) if target and target.type != SHORTCUT else each
