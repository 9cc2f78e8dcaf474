"""Pages of object versions on the local disk: what was read once is there after a restart, too.

Which pages there are is known from the names of the files, see `pagefile`; so no index needs to be kept in step with
them. Any number of mounts make and remove files at a time: a file that is gone is a miss.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from spacesfs.cache import pagefile
from spacesfs.cache.pagefile import bytes_on_disk, can_be_direct, last_at, pack, path_of, unpack
from spacesfs.client.models import ObjectVersion

log = logging.getLogger(__name__)

MAX_FILES = 100_000  # a version takes some 300 bytes of memory
RETRY_SECONDS = 60.0  # after the disk refused something
RESCAN_SECONDS = 60.0  # how often to look what other mounts have put there, before something is removed
_THREADS = 4
_MAX_DIGESTS = 1000  # more versions than are read at a time

_PROTECTED_SHARE = 0.75
_VERSION_SHARE = 0.5


@dataclass(slots=True)
class _Files:
    """The pages of one version: start and length packed into a number, in order."""

    pages: list[int] = field(default_factory=list)
    used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """How much is held; pages read, written, not written because the disk was busy or the cache full, found bad."""

    used_bytes: int = 0
    limit_bytes: int = 0
    pages: int = 0
    read_pages: int = 0
    read_bytes: int = 0
    written_pages: int = 0
    written_bytes: int = 0
    skipped_pages: int = 0
    bad_pages: int = 0


class DiskCache:
    """Owns the files below one folder, together with other mounts that use it, and knows which there are.

    Eviction is by use, whole versions in turn. A version read again from here is protected, up to three quarters of the
    cache; one version gets half of the cache at most; and a version that was never read again pushes out no protected
    one. So a pass over a huge file leaves the rest alone.

    A disk that is full or fails makes a miss, never an error: ``trouble`` says what is wrong, and after a minute the
    cache tries again.
    """

    def __init__(self, directory: Path, limit_bytes: int, space: str, max_queued_bytes: int) -> None:
        """Describe it; `open` must follow.

        Args:
            directory: Made if missing.
            limit_bytes: What all files together may take.
            space: What tells this bucket from all others.
            max_queued_bytes: What may wait to be written; beyond that pages are not stored.
        """
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.trouble: str | None = None
        self.opened = trio.Event()
        self._directory = directory
        self._space = space
        self._max_queued_bytes = max_queued_bytes
        self._queued_bytes = 0
        self._can_be_direct = True
        self._fresh: OrderedDict[bytes, _Files] = OrderedDict()
        self._protected: OrderedDict[bytes, _Files] = OrderedDict()
        self._protected_bytes = 0
        self._pages = 0
        self._threads = trio.CapacityLimiter(_THREADS)
        self._digests: OrderedDict[ObjectVersion, bytes] = OrderedDict()
        self._suspended_until = 0.0
        self._scanned_at = float("-inf")
        self._read_pages = self._read_bytes = self._written_pages = self._written_bytes = 0
        self._skipped_pages = self._bad_pages = 0

    async def open(self) -> None:
        """Look what is there, then set ``opened``. Until then pages of an earlier mount are misses."""
        try:
            with self._tolerating():
                await trio.to_thread.run_sync(pagefile.make_folders, self._directory, limiter=self._threads)
                await self._scan()
        finally:
            self.opened.set()

    def page_at(self, version: ObjectVersion, offset: int) -> tuple[int, int] | None:
        """Return where the page that holds a byte begins and ends; None if there is none."""
        files = self._files(self._digest(version))
        if files is None:
            return None
        index = bisect_right(files.pages, last_at(offset)) - 1
        if index < 0:
            return None
        start, length = unpack(files.pages[index])
        return (start, start + length) if offset < start + length else None

    def next_start(self, version: ObjectVersion, offset: int, default: int) -> int:
        """Return where the first page past ``offset`` begins, at most ``default``."""
        files = self._files(self._digest(version))
        if files is None:
            return default
        index = bisect_right(files.pages, last_at(offset))
        return min(unpack(files.pages[index])[0], default) if index < len(files.pages) else default

    async def load(self, version: ObjectVersion, start: int, buffer: memoryview) -> bool:
        """Fill a buffer with bytes that lie in one page; say whether they are there, and right.

        ``start`` is a multiple of a grain, and so is the end of the buffer, or it is the end of the page.
        """
        digest = self._digest(version)
        page = self.page_at(version, start)
        if page is None or start + len(buffer) > page[1]:
            return False
        path, identity = path_of(self._directory, digest, *page), self._identity(version)
        is_good = False
        with self._tolerating():
            try:
                is_good = await trio.to_thread.run_sync(
                    pagefile.read_page,
                    path,
                    identity,
                    page,
                    start,
                    buffer,
                    self._goes_direct(buffer),
                    limiter=self._threads,
                )
                if not is_good:
                    self._bad_pages += 1
                    log.warning("a page of %s in the cache %s is damaged; it is fetched again", version.key, path)
                    await trio.to_thread.run_sync(pagefile.remove, [path], limiter=self._threads)
            except FileNotFoundError:
                pass  # another mount made room
        if not is_good:
            self._forget(digest, page)
            return False
        self._read_pages += 1
        self._read_bytes += len(buffer)
        self._note_use(digest)
        return True

    async def store(self, version: ObjectVersion, start: int, view: memoryview) -> None:
        """Keep a page, if the disk keeps pace and lets us."""
        size = bytes_on_disk(len(view))
        if self._queued_bytes + len(view) > self._max_queued_bytes or trio.current_time() < self._suspended_until:
            self._skipped_pages += 1
            return
        digest = self._digest(version)
        self._queued_bytes += size
        try:
            with self._tolerating():
                if not await self._make_room(digest, size):
                    self._skipped_pages += 1
                    return
                page = (start, start + len(view))
                path, identity = path_of(self._directory, digest, *page), self._identity(version)
                # Past the page cache while the disk keeps pace: it costs a tenth of the CPU. Else the page cache helps.
                is_direct = self._goes_direct(view) and self._queued_bytes <= self._max_queued_bytes // 2
                if await trio.to_thread.run_sync(
                    pagefile.write_page, path, identity, view, is_direct, limiter=self._threads
                ):
                    self._written_pages += 1
                    self._written_bytes += len(view)
                    self._add(self._fresh, digest, page)
                    self.trouble = None
        finally:
            self._queued_bytes -= size

    async def clear(self) -> None:
        """Remove all pages that we know of; what is being written now may stay."""
        paths = []
        for digest, files in [*self._fresh.items(), *self._protected.items()]:
            for packed in [*files.pages]:
                start, size = unpack(packed)
                self._forget(digest, (start, start + size))
                paths.append(path_of(self._directory, digest, start, start + size))
        with self._tolerating():
            await trio.to_thread.run_sync(pagefile.remove, paths, limiter=self._threads)

    async def resize(self, limit_bytes: int, max_queued_bytes: int) -> None:
        """Take so much at most from now on, and let that much wait; what is too much goes at once."""
        self.limit_bytes = limit_bytes
        self._max_queued_bytes = max_queued_bytes
        with self._tolerating():
            await self._remove_others(b"", spares_protected=False)

    def statistics(self) -> DiskStatistics:
        """Return how it is now."""
        return DiskStatistics(
            self.used_bytes,
            self.limit_bytes,
            self._pages,
            self._read_pages,
            self._read_bytes,
            self._written_pages,
            self._written_bytes,
            self._skipped_pages,
            self._bad_pages,
        )

    def check_invariants(self) -> None:
        """Raise AssertionError where the index contradicts itself; for tests."""
        every = [*self._fresh.values(), *self._protected.values()]
        assert not self._fresh.keys() & self._protected.keys()
        for files in every:
            assert files.pages
            assert files.pages == sorted(set(files.pages))
            assert files.used_bytes == sum(bytes_on_disk(unpack(page)[1]) for page in files.pages)
        assert self._pages == sum(len(files.pages) for files in every)
        assert self.used_bytes == sum(files.used_bytes for files in every)
        assert self._protected_bytes == sum(files.used_bytes for files in self._protected.values())

    # --- what is there

    def _files(self, digest: bytes) -> _Files | None:
        return self._fresh.get(digest) or self._protected.get(digest)

    def _add(self, where: OrderedDict[bytes, _Files], digest: bytes, page: tuple[int, int]) -> None:
        files = self._files(digest)
        if files is None:
            files = where[digest] = _Files()
        packed, size = pack(page[0], page[1] - page[0]), bytes_on_disk(page[1] - page[0])
        if packed in files.pages[bisect_left(files.pages, packed) :][:1]:
            return
        insort(files.pages, packed)
        files.used_bytes += size
        self.used_bytes += size
        self._pages += 1
        if digest in self._protected:
            self._protected_bytes += size
        else:
            self._fresh.move_to_end(digest)

    def _forget(self, digest: bytes, page: tuple[int, int]) -> None:
        files, packed = self._files(digest), pack(page[0], page[1] - page[0])
        if files is None or packed not in files.pages:
            return
        files.pages.remove(packed)
        size = bytes_on_disk(page[1] - page[0])
        files.used_bytes -= size
        self.used_bytes -= size
        self._pages -= 1
        if digest in self._protected:
            self._protected_bytes -= size
        if not files.pages:
            self._fresh.pop(digest, None)
            self._protected.pop(digest, None)

    def _note_use(self, digest: bytes) -> None:
        files = self._fresh.pop(digest, None)
        if files is not None:
            self._protected[digest] = files
            self._protected_bytes += files.used_bytes
        elif digest in self._protected:
            self._protected.move_to_end(digest)
        while self._protected_bytes > _PROTECTED_SHARE * self.limit_bytes and len(self._protected) > 1:
            oldest, files = self._protected.popitem(last=False)
            self._protected_bytes -= files.used_bytes
            self._fresh[oldest] = files

    async def _make_room(self, digest: bytes, size: int) -> bool:
        """Remove what is used least until a page fits; say whether it may be stored."""
        files = self._files(digest)
        if (files.used_bytes if files is not None else 0) + size > _VERSION_SHARE * self.limit_bytes:
            return False
        if self._has_room():
            return True
        if trio.current_time() - self._scanned_at > RESCAN_SECONDS:
            await self._scan()
        await self._remove_others(digest, spares_protected=digest not in self._protected)
        return self._has_room()

    async def _remove_others(self, digest: bytes, *, spares_protected: bool) -> None:
        """Remove pages of other versions until there is room, or none is left."""
        paths: list[str] = []
        while not self._has_room():
            victim = next((other for other in self._fresh if other != digest), None)
            if victim is None and not spares_protected:
                victim = next((other for other in self._protected if other != digest), None)
            if victim is None:
                break
            victims = self._files(victim)
            assert victims is not None
            page = unpack(victims.pages[-1])  # from the end, for files are read from the start
            span = (page[0], page[0] + page[1])
            self._forget(victim, span)
            paths.append(path_of(self._directory, victim, *span))
        if paths:
            await trio.to_thread.run_sync(pagefile.remove, paths, limiter=self._threads)

    def _has_room(self) -> bool:
        """Tell whether what is about to be written fits."""
        return self.used_bytes + self._queued_bytes <= self.limit_bytes and self._pages < MAX_FILES

    async def _scan(self) -> None:
        """Take over what is in the folder: what was used last comes last, what was read again is protected."""
        self._scanned_at = trio.current_time()
        found = await trio.to_thread.run_sync(pagefile.scan, self._directory, limiter=self._threads)
        for digest, pages, is_protected in found:
            known = self._files(digest)
            where = self._protected if is_protected else self._fresh
            for packed in pages:
                start, length = unpack(packed)
                self._add(where, digest, (start, start + length))
            if known is None and where is self._fresh:
                self._fresh.move_to_end(digest)

    def _goes_direct(self, view: memoryview) -> bool:
        return self._can_be_direct and can_be_direct(view)

    # --- names

    def _digest(self, version: ObjectVersion) -> bytes:
        digest = self._digests.get(version)
        if digest is None:
            digest = hashlib.blake2b(self._identity(version), digest_size=16).digest()
            self._digests[version] = digest
            if len(self._digests) > _MAX_DIGESTS:
                self._digests.popitem(last=False)
        return digest

    def _identity(self, version: ObjectVersion) -> bytes:
        return f"{self._space}\n{version.key}\n{version.etag}\n{version.size}".encode()

    # --- trouble

    @contextmanager
    def _tolerating(self) -> Iterator[None]:
        """Go on without the cache when the disk fails, and say so once."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.EINVAL and self._can_be_direct:
                self._can_be_direct = False  # a file system that says it can pass the page cache by, and can't
                return
            self._suspended_until = trio.current_time() + RETRY_SECONDS
            if self.trouble is None:
                self.trouble = f"reading goes on without the cache in {self._directory}: {error.strerror or error}"
                log.warning("%s", self.trouble)
