"""Memory for bytes on their way: runs of 1 MiB, aligned to pages, used again once nobody looks at them.

Fresh pages cost more than copying does, so what was given back is taken first. A view that is still alive somewhere
(a transport may hold one unsent) keeps its run from being used again: mmap refuses to be resized then, even to the
size that it has.
"""

import mmap
from collections import deque

SIZE = 1 << 20


class Pool:
    """Keeps up to `most` runs."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.free: deque[mmap.mmap] = deque()

    def take(self) -> mmap.mmap:
        """Memory to write to."""
        for _ in range(min(len(self.free), 8)):
            memory = self.free.popleft()
            try:
                memory.resize(SIZE)
                return memory
            except (BufferError, SystemError, OSError, ValueError):
                self.free.append(memory)
        return mmap.mmap(-1, SIZE)

    def put(self, memory: mmap.mmap) -> None:
        """Memory that nobody will write to again; views of it may still be on their way."""
        if len(self.free) < self.most:
            self.free.append(memory)
