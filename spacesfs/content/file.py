"""What all handles of one inode share: a version in the Space, and what was changed since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from spacesfs.client.models import ObjectVersion
from spacesfs.content.content import Content, Contents
from spacesfs.content.extents import Extent
from spacesfs.content.filereader import FileReader
from spacesfs.content.plan import MAX_OBJECT_BYTES, SINGLE_PUT_BYTES
from spacesfs.content.readahead import ReadAheadOptions
from spacesfs.content.reader import PageReader
from spacesfs.errors import FileTooBig, StaleFile

KEPT_BYTES = 32 << 20  # longer to download than a rename or a create should take on an ordinary line


class OpenFile:
    """The content of one inode while it is open.

    Writing takes no lock and, once the first byte is staged, no await but for room on the disk. Reads take no lock, and
    look again when a change of the base overtook them.

    Attributes:
        content: What is staged; None while nothing was changed.
        has_written: Bytes came since the file was created, emptied or last sent.
    """

    def __init__(self, contents: Contents, version: ObjectVersion | None, content: Content | None = None) -> None:
        self._contents = contents
        self._version = version
        self._lock = trio.Lock()
        self._moved: trio.Event | None = None
        self.content: Content | None = None
        self.has_written = False
        if content is not None:
            self._hold(content)

    @property
    def base(self) -> ObjectVersion | None:
        """The version in the Space that has what is not staged; None if it has nothing."""
        return self.content.source if self.content is not None else self._version

    @base.setter
    def base(self, version: ObjectVersion) -> None:
        self._version = version
        if self.content is not None:
            self.content.source = version

    @property
    def size(self) -> int:
        """Bytes in the file."""
        if self.content is not None:
            return self.content.staged.size
        return self._version.size if self._version is not None else 0

    @property
    def is_saved(self) -> bool:
        """Say whether nothing would be lost with the process."""
        return self.content is None or self.content.is_saved

    def begin(self) -> None:
        """Start as an empty file."""
        self._hold(self._contents.new())

    def close(self) -> None:
        """Let go of what is staged."""
        if self.content is not None:
            self._version = self.content.source
            content, self.content = self.content, None
            self._contents.release(content)

    async def read(self, reader: FileReader, offset: int, length: int) -> bytes | memoryview:
        """Return up to ``length`` bytes; fewer only at the end of the file.

        Raises:
            StaleFile: The Space holds another version than the one that was opened.
        """
        while True:
            base = self.base
            extent = Extent(offset, min(offset + length, self.size))
            if extent.start >= extent.end:
                return b""
            try:
                if self.content is None:
                    return await reader.read(_known(base), extent)
                return await self._read_staged(self.content, reader, base, extent)
            except StaleFile:
                if self._moved is not None:
                    await self._moved.wait()
                if self.base is base:
                    raise

    async def write(self, offset: int, data: bytes | memoryview) -> int:
        """Change bytes; return how many.

        Raises:
            NoSpace: The staging area is full.
        """
        end = offset + len(data)
        _check_size(end)
        content = self.content or await self._begin_content(will_cover=Extent(offset, end))
        content.staged.write(offset, data)
        self.has_written = True
        return len(data)

    async def truncate(self, size_bytes: int) -> None:
        """Set the size; new bytes are zeros."""
        _check_size(size_bytes)
        if size_bytes == self.size:
            return
        content = self.content or await self._begin_content(will_cover=Extent(size_bytes, self.size))
        content.staged.truncate(size_bytes)
        self.has_written = True

    async def clear(self) -> None:
        """Empty the file, as O_TRUNC does. What was acknowledged before stays as it is, for it may be on its way."""
        async with self._lock:
            old, self.content = self.content, None
            self.begin()
            self.has_written = False
            if old is not None:
                self._contents.release(old)

    async def keep(self) -> None:
        """Bring all bytes here before the object is replaced, so that its readers go on; of a large file they can't.

        Raises:
            FsError, SpacesError: Not all could be had.
        """
        if self.size - (self.content.staged.present.total_bytes if self.content else 0) > KEPT_BYTES:
            return
        content = self.content or await self._begin_content(Extent(0, 0))
        async with content.lock:
            await content.fill_gaps()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Tell readers that the base version is getting another key: who misses it waits for the end of the block."""
        self._moved = moved = trio.Event()
        try:
            yield
        finally:
            self._moved = None
            moved.set()

    def _hold(self, content: Content) -> None:
        self._contents.hold(content)
        self.content = content

    async def _begin_content(self, will_cover: Extent) -> Content:
        """Start to stage. A small file is staged whole, as a later change of another host would take the rest away."""
        async with self._lock:
            if self.content is not None:
                return self.content
            version = self._version
            content = self._contents.new(self.size, version)
            self._contents.hold(content)
            try:
                is_covered = will_cover.start == 0 and will_cover.end >= self.size
                if version is not None and version.size <= SINGLE_PUT_BYTES and not is_covered:
                    await content.fill_gaps()
                    content.saved_changes = content.staged.changes
            except BaseException:
                self._contents.release(content)
                raise
            self.content = content
            return content

    async def _read_staged(
        self, content: Content, reader: FileReader, base: ObjectVersion | None, extent: Extent
    ) -> bytes | memoryview:
        buffer = memoryview(bytearray(extent.length))
        for gap in content.staged.gaps(extent):
            buffer[gap.start - extent.start : gap.end - extent.start] = await reader.read(_known(base), gap)
        if content is not self.content:  # emptied meanwhile
            return await self.read(reader, extent.start, extent.length)
        content.read_present(extent, buffer)  # after the await: what was written meanwhile is seen
        return buffer[: max(content.staged.size - extent.start, 0)]


class FileFactory:
    """Makes the open files and the readers of a mount; ``read_ahead`` is how new ones read."""

    def __init__(self, contents: Contents, pages: PageReader, read_ahead: ReadAheadOptions) -> None:
        self.contents = contents
        self.read_ahead = read_ahead
        self._pages = pages

    def existing(self, version: ObjectVersion | None, content: Content | None = None) -> OpenFile:
        """Return the file of a version in the Space, or of a content that is on its way there."""
        return OpenFile(self.contents, version, content)

    def new(self) -> OpenFile:
        """Return an empty file that is nowhere yet."""
        file = OpenFile(self.contents, None)
        file.begin()
        return file

    def reader(self) -> FileReader:
        """Return the reading side of a new handle."""
        return FileReader(self._pages, self.read_ahead)


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_OBJECT_BYTES:
        raise FileTooBig


def _known(base: ObjectVersion | None) -> ObjectVersion:
    assert base is not None, "bytes that are not staged have a base version"
    return base
