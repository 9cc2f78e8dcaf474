"""What all handles of one inode share: its base version in the Space, and what was changed since."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from spacesfs.client.errors import NoSuchKey, PreconditionFailed
from spacesfs.client.models import ObjectProperties, ObjectVersion
from spacesfs.content.extents import Extent
from spacesfs.content.readahead import ReadAheadOptions
from spacesfs.content.reader import FileReader, PageReader, RangeStore, read_version
from spacesfs.content.staging import StagedFile, StagingArea
from spacesfs.content.upload import MAX_OBJECT_BYTES, SINGLE_PUT_BYTES, Uploader, UploadStore, plan_parts
from spacesfs.errors import Conflict, FileTooBig, StaleFile

_REMEMBERED_ATTEMPTS = 64
KEPT_BYTES = 32 << 20  # longer to download than a rename or a create should take on an ordinary line


class FileStore(RangeStore, UploadStore, Protocol):
    """What is needed of a bucket here."""


class OpenFile:
    """The content of one inode while it is open or not yet in the Space.

    Write, truncate and commit hold ``lock``; reads do not, and look again when a commit overtook them.

    Attributes:
        base: The version in the Space that the content started from; None for a file that is not there yet.
        is_dirty: The content differs from the base version, or there is none.
        has_written: Bytes came since the last commit. A file just created or emptied is dirty but has not written.
    """

    def __init__(self, store: FileStore, staging: StagingArea, uploader: Uploader, base: ObjectVersion | None) -> None:
        self._store = store
        self._staging = staging
        self._uploader = uploader
        self._staged: StagedFile | None = None
        self.lock = trio.Lock()
        self.base = base
        self.is_dirty = False
        self.has_written = False
        self._moved: trio.Event | None = None
        self._attempted: deque[str] = deque(maxlen=_REMEMBERED_ATTEMPTS)

    def begin(self) -> None:
        """Start as an empty file."""
        self._staged = self._staging.create()
        self.is_dirty = True

    @property
    def size(self) -> int:
        """Bytes in the file."""
        if self._staged is not None:
            return self._staged.size
        return self.base.size if self.base is not None else 0

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
                if self._staged is None:
                    return await reader.read(_known(base), extent)
                return await self._read_staged(self._staged, reader, base, extent)
            except StaleFile:
                if self._moved is not None:
                    await self._moved.wait()
                if self.base is base:
                    raise

    async def write(self, offset: int, data: bytes) -> int:
        """Change bytes; return how many.

        Raises:
            NoSpace: The staging area is full.
        """
        _check_size(offset + len(data))
        async with self.lock:
            if self._staged is None and self.base is not None and self.base.size <= SINGLE_PUT_BYTES:
                await self._stage_all()  # a commit needs all bytes; by then another host may have changed them
            self._stage().write(offset, data)
            self.is_dirty = self.has_written = True
        return len(data)

    async def truncate(self, size_bytes: int) -> None:
        """Set the size; new bytes are zeros."""
        _check_size(size_bytes)
        async with self.lock:
            if size_bytes != self.size:
                self._stage().truncate(size_bytes)
                self.is_dirty = self.has_written = True

    async def clear(self) -> None:
        """Empty the file, as O_TRUNC does: dirty, but nothing is written yet."""
        async with self.lock:
            self._stage().truncate(0)
            self.is_dirty = True

    async def commit(self, key_now: Callable[[], str], properties: ObjectProperties) -> ObjectVersion | None:
        """Store the content and make that the base version; return it, or None if the file was clean.

        ``key_now`` is asked once the lock is held: whoever renames a file that is not in the Space holds it too.

        Raises:
            Conflict: Somebody else changed the object since it was opened, or was first to create it.
        """
        async with self.lock:
            if not self.is_dirty and self.base is not None:
                return None
            key, staged = key_now(), self._stage()
            is_new = await self._check_base()
            try:
                etag = await self._upload(key, staged, properties, is_new=is_new)
            except PreconditionFailed as error:
                if not is_new or not await self._was_ours(key):
                    raise Conflict from error
                etag = await self._upload(key, staged, properties, is_new=False)
            self.base = ObjectVersion(key, etag, staged.size)
            self.is_dirty = self.has_written = False
            self._attempted.clear()
            staged.dirty.clear()
            return self.base

    def note_attempt(self, etag: str) -> None:
        """Remember an ETag that the Space may hold although no reply said so: finding it is no conflict."""
        self._attempted.append(etag)

    async def keep(self) -> None:
        """Bring all bytes here before the object is replaced, so that its readers go on; of a large file they can't.

        Raises:
            FsError, SpacesError: Not all could be had.
        """
        async with self.lock:
            staged = self._stage()
            if staged.size - staged.present.total_bytes <= KEPT_BYTES:
                await self._fill_gaps(staged)

    async def detach(self) -> None:
        """Forget the base version, so that the next commit makes an object of its own.

        Raises:
            StaleFile: Not all bytes are staged, and the version that has the others is gone.
        """
        async with self.lock:
            if self._stage().gaps(Extent(0, self.size)):
                raise StaleFile
            self.base = None

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Tell readers that the base version is getting another key: who misses it waits for the end of the block."""
        self._moved = moved = trio.Event()
        try:
            yield
        finally:
            self._moved = None
            moved.set()

    def drop_staged(self) -> None:
        """Free the local copy; what was not committed is gone."""
        if self._staged is not None:
            self._staged.close()
            self._staged = None

    async def read_all(self, extent: Extent) -> memoryview:
        """Return the bytes of an extent for an upload; the caller holds ``lock`` and has room in the memory budget."""
        staged = self._stage()
        buffer = memoryview(bytearray(extent.length))
        await trio.to_thread.run_sync(_read_present, staged, extent, buffer)
        for gap in staged.gaps(extent):
            view = buffer[gap.start - extent.start : gap.end - extent.start]
            await read_version(self._store, _known(self.base), gap.start, view)
        return buffer

    async def _stage_all(self) -> None:
        try:
            await self._fill_gaps(self._stage())
        except BaseException:
            self.drop_staged()
            raise

    async def _fill_gaps(self, staged: StagedFile) -> None:
        for gap in staged.gaps(Extent(0, staged.size)):
            buffer = memoryview(bytearray(gap.length))
            await read_version(self._store, _known(self.base), gap.start, buffer)
            staged.fill(gap.start, buffer)

    def _stage(self) -> StagedFile:
        if self._staged is None:
            self._staged = self._staging.create(self.size)
        return self._staged

    async def _check_base(self) -> bool:
        """Look whether the base version is still there; return True when there is no object to overwrite."""
        if self.base is None:
            return True
        try:
            now = await self._store.head(self.base.key)
        except NoSuchKey:
            return True
        if now.etag in self._attempted:
            self.base = ObjectVersion(now.key, now.etag, now.size)
        if now.etag != self.base.etag:
            raise Conflict
        return False

    async def _was_ours(self, key: str) -> bool:
        """Look whether an earlier attempt of ours made the object, only its reply was lost; if so, that is the base."""
        try:
            now = await self._store.head(key)
        except NoSuchKey:
            return False
        if now.etag not in self._attempted:
            return False
        self.base = ObjectVersion(key, now.etag, now.size)
        return True

    async def _upload(self, key: str, staged: StagedFile, properties: ObjectProperties, *, is_new: bool) -> str:
        if staged.size <= SINGLE_PUT_BYTES:
            return await self._uploader.put_small(key, self, staged.size, properties, is_new=is_new)
        base = None if is_new else self.base
        # Past the clean bytes of the base version everything is present, so what is copied is what is absent or clean.
        parts = plan_parts(staged.size, staged.dirty, base.size if base is not None else 0)
        return await self._uploader.put_parts(key, self, parts, properties, base)

    async def _read_staged(
        self, staged: StagedFile, reader: FileReader, base: ObjectVersion | None, extent: Extent
    ) -> bytes | memoryview:
        buffer = memoryview(bytearray(extent.length))
        gaps = staged.gaps(extent)
        for gap in gaps:
            buffer[gap.start - extent.start : gap.end - extent.start] = await reader.read(_known(base), gap)
        if staged is not self._staged:  # committed and let go meanwhile
            return await reader.read(_known(self.base), extent)
        _read_present(staged, extent, buffer)  # after the await: what was written meanwhile is seen
        return buffer[: max(staged.size - extent.start, 0)]


class FileFactory:
    """Makes the open files and the readers of a mount."""

    def __init__(
        self,
        store: FileStore,
        staging: StagingArea,
        uploader: Uploader,
        pages: PageReader,
        read_ahead: ReadAheadOptions,
    ) -> None:
        self._store = store
        self._staging = staging
        self._uploader = uploader
        self._pages = pages
        self._read_ahead = read_ahead

    def existing(self, base: ObjectVersion | None) -> OpenFile:
        """Return the file of a version in the Space."""
        return OpenFile(self._store, self._staging, self._uploader, base)

    def new(self, replaces: ObjectVersion | None) -> OpenFile:
        """Return an empty file that is not in the Space; ``replaces`` is the version that it may overwrite."""
        file = OpenFile(self._store, self._staging, self._uploader, replaces)
        file.begin()
        return file

    def reader(self) -> FileReader:
        """Return the reading side of a new handle."""
        return FileReader(self._pages, self._read_ahead)


def _read_present(staged: StagedFile, extent: Extent, buffer: memoryview) -> None:
    for present in staged.present.within(*extent):
        staged.read_into(present.start, buffer[present.start - extent.start : present.end - extent.start])


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_OBJECT_BYTES:
        raise FileTooBig


def _known(base: ObjectVersion | None) -> ObjectVersion:
    assert base is not None, "bytes that are not staged have a base version"
    return base
