"""Which streams of reads a handle has, and how far ahead of each to fetch. Decides only; nothing here waits."""

from __future__ import annotations

from dataclasses import dataclass

from spacesfs.content.extents import Extent

START_BYTES = 1 << 20  # a long read here begins to read in order; the kernel's first ones overtake one another


@dataclass(frozen=True, slots=True)
class ReadAheadOptions:
    """Sizes in bytes.

    Attributes:
        first_window_bytes: How far ahead a stream is fetched once it is one.
        max_window_bytes: And at most, when the reader had to wait again and again.
        slack_bytes: A read that begins so far before or behind the end of the last one still belongs to its stream: the
            kernel's own reads overtake one another, and programs skip what they know.
        streams: How many streams a handle can have; one more takes the place of the one that rested longest.
    """

    first_window_bytes: int = 8 << 20
    max_window_bytes: int = 32 << 20
    slack_bytes: int = 1 << 20
    streams: int = 4


_TOUCHING_BYTES = 32 << 10  # a skip so small is none: the kernel has what is between, or the reader does not want it
_STEPS = 3  # reads that go forward by small skips, after which it is a stream all the same


class Stream:
    """Reads that go on where the last one ended.

    Attributes:
        position: The furthest byte read.
        reached: Up to where bytes are here or on their way, as far as this stream has seen to it.
        window_bytes: How far ``reached`` should be ahead of ``position``; 0 while this may be just a few random reads.
    """

    def __init__(self, read: Extent, options: ReadAheadOptions) -> None:
        self._options = options
        self._steps = 0
        self._widened_at = 0
        self.position = read.end
        self.reached = read.end
        self.window_bytes = 0

    @property
    def is_steady(self) -> bool:
        """Whether it has proven to be a stream."""
        return self.window_bytes > 0

    @property
    def target(self) -> int:
        """Up to where to fetch; it may lie past the end of the file."""
        return self.position + self.window_bytes

    def holds(self, read: Extent) -> bool:
        """Say whether a read belongs to the stream."""
        slack = self._options.slack_bytes
        return self.position - slack <= read.start <= self.position + slack

    def take(self, read: Extent) -> None:
        """Note a read that belongs to the stream."""
        skipped = read.start - self.position
        self._steps += skipped >= 0
        if not self.window_bytes and (0 <= skipped <= _TOUCHING_BYTES or self._steps >= _STEPS):
            self.window_bytes = min(self._options.first_window_bytes, self._options.max_window_bytes)
        self.position = max(self.position, read.end)
        self.reached = max(self.reached, self.position)

    def widen(self) -> None:
        """The reader had to wait: fetch further ahead. Several reads that wait at once count once."""
        if self.position >= self._widened_at:
            self.window_bytes = min(self.window_bytes * 2, self._options.max_window_bytes)
            self._widened_at = self.position + self.window_bytes // 2

    def narrow(self, least_bytes: int) -> None:
        """There is no memory to fetch so far ahead."""
        self.window_bytes = max(self.window_bytes // 2, min(least_bytes, self.window_bytes))


class ReadAhead:
    """Watches the reads of one handle and tells its streams apart, the one read last being first."""

    def __init__(self, options: ReadAheadOptions) -> None:
        self._options = options
        self.streams: list[Stream] = []

    def observe(self, read: Extent) -> Stream:
        """Note a read; return its stream, which is new if the read goes on with none."""
        for index, stream in enumerate(self.streams):
            if stream.holds(read):
                stream.take(read)
                if index:
                    self.streams.insert(0, self.streams.pop(index))
                return stream
        stream = Stream(read, self._options)
        self.streams.insert(0, stream)
        del self.streams[self._options.streams :]
        return stream
