"""A folder of a tree was written to: whatever keeps its listing takes a new one when it is wanted next.

Where that is, below other trees and under other names (encrypted ones, a folder deeper), is found as listings find it:
by listing the folder, in a context in which those that keep listings give nothing and only note which are out of date.
"""

from contextlib import aclosing
from contextvars import ContextVar

from playhead.errors import Failure
from playhead.tree import Tree, segments

marking: ContextVar[bool] = ContextVar("marking", default=False)


async def written(tree: Tree, folder: str) -> None:
    """Something is new in a folder, and perhaps the folder itself. Where listings are kept, no origin is asked."""
    token = marking.set(True)
    try:
        names = segments(folder)
        for depth in range(len(names) + 1):
            async with aclosing(tree.entries("/".join(names[:depth]))) as entries:
                await anext(entries, None)
    except Failure:
        return  # nobody keeps that it is not there
    finally:
        marking.reset(token)
