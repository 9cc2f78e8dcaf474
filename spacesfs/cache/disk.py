"""Pages of object versions on the local disk: what was read once is there after a restart, too.

One file holds one page, see `Page`. Its name says which, so no index needs to be kept in step with the files:
``DIGEST.START.LENGTH``, a digest of endpoint, bucket, key, ETag and size. A file begins with a block of 4 KiB: what
it is of, in full, and a CRC-32 for each 128 KiB, so that a part of a page can be read and trusted. It gets its name
only when it is whole. Nothing is synced: after a loss of power the checksums tell what is good. Any number of mounts
make and remove files at a time: a file that is gone is a miss.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import mmap
import os
import struct
import time
import zlib
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from spacesfs.cache.pages import GRAIN_BYTES
from spacesfs.client.models import ObjectVersion

log = logging.getLogger(__name__)

HEADER_BYTES = 4096  # keeps what follows aligned to the blocks of the disk
MAX_FILES = 100_000  # a version takes some 300 bytes of memory
MAX_PAGE_BYTES = 8 << 20  # its checksums fit into the header
KEPT_FREE_BYTES = 256 << 20  # of the file system, for those who can't do without
RETRY_SECONDS = 60.0  # after the disk refused something
RESCAN_SECONDS = 60.0  # how often to look what other mounts have put there, before something is removed
_THREADS = 4

_MAGIC = b"spacesfs page 1\n"
_HEAD = struct.Struct("<16sIHH")  # magic, CRC-32 of the rest of the header, lengths of identity and of checksums
_LENGTH_BITS = 24  # holds MAX_PAGE_BYTES
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

    used_bytes: int
    limit_bytes: int
    pages: int
    read_pages: int
    read_bytes: int
    written_pages: int
    written_bytes: int
    skipped_pages: int
    bad_pages: int


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
                await trio.to_thread.run_sync(_make_folders, self._directory, limiter=self._threads)
                await self._scan()
        finally:
            self.opened.set()

    def page_at(self, version: ObjectVersion, offset: int) -> tuple[int, int] | None:
        """Return where the page that holds a byte begins and ends; None if there is none."""
        files = self._files(self._digest(version))
        if files is None:
            return None
        index = bisect_right(files.pages, _pack(offset, (1 << _LENGTH_BITS) - 1)) - 1
        if index < 0:
            return None
        start, length = _unpack(files.pages[index])
        return (start, start + length) if offset < start + length else None

    def next_start(self, version: ObjectVersion, offset: int, default: int) -> int:
        """Return where the first page past ``offset`` begins, at most ``default``."""
        files = self._files(self._digest(version))
        if files is None:
            return default
        index = bisect_right(files.pages, _pack(offset, (1 << _LENGTH_BITS) - 1))
        return min(_unpack(files.pages[index])[0], default) if index < len(files.pages) else default

    async def load(self, version: ObjectVersion, start: int, buffer: memoryview) -> bool:
        """Fill a buffer with bytes that lie in one page; say whether they are there, and right.

        ``start`` is a multiple of a grain, and so is the end of the buffer, or it is the end of the page.
        """
        digest = self._digest(version)
        page = self.page_at(version, start)
        if page is None or start + len(buffer) > page[1]:
            return False
        path, identity = self._path(digest, *page), self._identity(version)
        is_good = False
        with self._tolerating():
            try:
                is_good = await trio.to_thread.run_sync(
                    _read_page, path, identity, page, start, buffer, _can_be_direct(buffer), limiter=self._threads
                )
                if not is_good:
                    self._bad_pages += 1
                    log.warning("a page of %s in the cache %s is damaged; it is fetched again", version.key, path)
                    await trio.to_thread.run_sync(_remove, [path], limiter=self._threads)
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
        if self._queued_bytes + len(view) > self._max_queued_bytes or trio.current_time() < self._suspended_until:
            self._skipped_pages += 1
            return
        digest = self._digest(version)
        self._queued_bytes += len(view)
        try:
            with self._tolerating():
                if not await self._make_room(digest, _on_disk(len(view))):
                    self._skipped_pages += 1
                    return
                page = (start, start + len(view))
                path, identity = self._path(digest, *page), self._identity(version)
                # Past the page cache while the disk keeps pace: it costs a tenth of the CPU. Else the page cache helps.
                is_direct = _can_be_direct(view) and self._queued_bytes <= self._max_queued_bytes // 2
                if await trio.to_thread.run_sync(_write_page, path, identity, view, is_direct, limiter=self._threads):
                    self._written_pages += 1
                    self._written_bytes += len(view)
                    self._add(self._fresh, digest, page)
                    self.trouble = None
        finally:
            self._queued_bytes -= len(view)

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
            assert files.used_bytes == sum(_on_disk(_unpack(page)[1]) for page in files.pages)
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
        packed, size = _pack(page[0], page[1] - page[0]), _on_disk(page[1] - page[0])
        if packed in files.pages[bisect_right(files.pages, packed) - 1 :][:1]:
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
        files, packed = self._files(digest), _pack(page[0], page[1] - page[0])
        if files is None or packed not in files.pages:
            return
        files.pages.remove(packed)
        size = _on_disk(page[1] - page[0])
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
        if self.used_bytes + size <= self.limit_bytes and self._pages < MAX_FILES:
            return True
        if trio.current_time() - self._scanned_at > RESCAN_SECONDS:
            await self._scan()
        paths: list[str] = []
        while self.used_bytes + size > self.limit_bytes or self._pages >= MAX_FILES:
            victim = next((other for other in self._fresh if other != digest), None)
            if victim is None and digest in self._protected:
                victim = next((other for other in self._protected if other != digest), None)
            if victim is None:
                break
            victims = self._files(victim)
            assert victims is not None
            page = _unpack(victims.pages[-1])  # from the end, for files are read from the start
            span = (page[0], page[0] + page[1])
            self._forget(victim, span)
            paths.append(self._path(victim, *span))
        if paths:
            await trio.to_thread.run_sync(_remove, paths, limiter=self._threads)
        return self.used_bytes + size <= self.limit_bytes

    async def _scan(self) -> None:
        """Take over what is in the folder: what was used last comes last, what was read again is protected."""
        self._scanned_at = trio.current_time()
        found = await trio.to_thread.run_sync(_scan, self._directory, limiter=self._threads)
        for digest, pages, is_protected in found:
            known = self._files(digest)
            where = self._protected if is_protected else self._fresh
            for packed in pages:
                start, length = _unpack(packed)
                self._add(where, digest, (start, start + length))
            if known is None and where is self._fresh:
                self._fresh.move_to_end(digest)

    # --- names

    def _digest(self, version: ObjectVersion) -> bytes:
        digest = self._digests.get(version)
        if digest is None:
            digest = hashlib.blake2b(self._identity(version), digest_size=16).digest()
            self._digests[version] = digest
            if len(self._digests) > 1000:  # noqa: PLR2004 - more than are read at a time
                self._digests.popitem(last=False)
        return digest

    def _identity(self, version: ObjectVersion) -> bytes:
        return f"{self._space}\n{version.key}\n{version.etag}\n{version.size}".encode()

    def _path(self, digest: bytes, start: int, end: int) -> str:
        name = digest.hex()
        return f"{self._directory}/{name[:2]}/{name}.{start:x}.{end - start:x}"

    # --- trouble

    @contextmanager
    def _tolerating(self) -> Iterator[None]:
        """Go on without the cache when the disk fails, and say so once."""
        try:
            yield
        except OSError as error:
            self._suspended_until = trio.current_time() + RETRY_SECONDS
            if self.trouble is None:
                self.trouble = f"reading goes on without the cache in {self._directory}: {error.strerror or error}"
                log.warning("%s", self.trouble)


def _pack(start: int, length: int) -> int:
    return start << _LENGTH_BITS | length


def _unpack(packed: int) -> tuple[int, int]:
    return packed >> _LENGTH_BITS, packed & (1 << _LENGTH_BITS) - 1


def _on_disk(length: int) -> int:
    """Return what a page takes on the disk."""
    return HEADER_BYTES - (-length // HEADER_BYTES) * HEADER_BYTES


# --- in threads


def _make_folders(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(256):
        (directory / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)


def _scan(directory: Path) -> list[tuple[bytes, list[int], bool]]:
    """Return the pages of each version, the version used least first, and whether it was read again."""
    found: dict[bytes, list[int]] = {}
    used: dict[bytes, float] = {}
    again: set[bytes] = set()
    for number in range(256):
        try:
            entries = os.scandir(f"{directory}/{number:02x}")
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                parsed = _parse(entry.name)
                if parsed is None:
                    continue
                digest, packed = parsed
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.setdefault(digest, []).append(packed)
                used[digest] = max(used.get(digest, 0.0), status.st_mtime, status.st_atime)
                if status.st_atime_ns > status.st_mtime_ns:
                    again.add(digest)
    return [(digest, found[digest], digest in again) for digest in sorted(found, key=used.__getitem__)]


def _parse(name: str) -> tuple[bytes, int] | None:
    try:
        digest, start, length = name.split(".")
        packed = _pack(int(start, 16), int(length, 16))
        return (bytes.fromhex(digest), packed) if 0 < int(length, 16) <= MAX_PAGE_BYTES else None
    except ValueError:
        return None


def _header(identity: bytes, view: memoryview) -> mmap.mmap | None:
    sums = b"".join(
        zlib.crc32(view[start : start + GRAIN_BYTES]).to_bytes(4, "little")
        for start in range(0, len(view), GRAIN_BYTES)
    )
    rest = struct.pack("<HH", len(identity), len(sums)) + identity + sums
    if _HEAD.size + len(identity) + len(sums) > HEADER_BYTES:
        return None
    block = mmap.mmap(-1, HEADER_BYTES)
    block.write(_MAGIC + struct.pack("<I", zlib.crc32(rest)) + rest)
    return block


def _write_page(path: str, identity: bytes, view: memoryview, is_direct: bool) -> bool:  # noqa: FBT001 - run_sync's way
    """Write a page under a name that it gets when it is whole; say whether it is there."""
    header = _header(identity, view)
    if header is None:
        return False
    folder, name = os.path.split(path)
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        descriptor = _open(".", os.O_TMPFILE | os.O_WRONLY, directory, is_direct=is_direct)
        try:
            _fill_page(descriptor, header, view, is_direct=is_direct)
            os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
        except FileExistsError:
            pass  # another mount was first
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)
    return True


def _fill_page(descriptor: int, header: mmap.mmap, view: memoryview, *, is_direct: bool) -> None:
    room = os.fstatvfs(descriptor)
    if room.f_bavail * room.f_frsize < KEPT_FREE_BYTES:
        raise OSError(errno.ENOSPC, "the disk is nearly full")
    views = [memoryview(header), _rounded(view) if is_direct else view]
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]
    if is_direct:
        os.truncate(descriptor, HEADER_BYTES + len(view))
    now = time.time_ns()
    os.utime(descriptor, ns=(now, now))


def _read_page(  # noqa: PLR0917 - run_sync's way
    path: str,
    identity: bytes,
    page: tuple[int, int],
    start: int,
    buffer: memoryview,
    is_direct: bool,  # noqa: FBT001 - as above
) -> bool:
    """Read a part of a page; say whether the checksums hold.

    Raises:
        FileNotFoundError: The page is gone.
        OSError: The disk fails.
    """
    header = mmap.mmap(-1, HEADER_BYTES)
    descriptor = _open(path, os.O_RDONLY | os.O_NOFOLLOW, None, is_direct=is_direct)
    try:
        target = _rounded(buffer) if is_direct else buffer
        if start == page[0]:
            done = os.preadv(descriptor, [header, target], 0) - HEADER_BYTES
        else:
            os.preadv(descriptor, [header], 0)
            done = os.preadv(descriptor, [target], HEADER_BYTES + start - page[0])
        status = os.fstat(descriptor)
        os.utime(descriptor, ns=(time.time_ns(), status.st_mtime_ns))
    finally:
        os.close(descriptor)
    sums = _checksums(header[:], identity)
    if done < len(buffer) or sums is None:
        return False
    first = (start - page[0]) // GRAIN_BYTES
    return all(
        sums[4 * grain : 4 * grain + 4] == zlib.crc32(buffer[offset : offset + GRAIN_BYTES]).to_bytes(4, "little")
        for grain, offset in enumerate(range(0, len(buffer), GRAIN_BYTES), first)
    )


def _open(path: str, flags: int, directory: int | None, *, is_direct: bool) -> int:
    """Open a file, past the kernel's page cache where the file system can do that."""
    if is_direct:
        try:
            return os.open(path, flags | os.O_DIRECT, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return os.open(path, flags, 0o600, dir_fd=directory)


def _can_be_direct(view: memoryview) -> bool:
    """Tell whether a view is a mapping but for the end of its last block: the disk wants whole, aligned blocks."""
    return isinstance(view.obj, mmap.mmap) and 0 <= len(view.obj) - len(view) < HEADER_BYTES


def _rounded(view: memoryview) -> memoryview:
    """Return a view of the whole mapping that a view begins."""
    assert isinstance(view.obj, mmap.mmap)
    return memoryview(view.obj)


def _checksums(header: bytes, identity: bytes) -> bytes | None:
    """Return the checksums of a page's grains, if the header is good and of this version."""
    magic, checksum, identity_length, sums_length = _HEAD.unpack_from(header)
    end = _HEAD.size + identity_length + sums_length
    if magic != _MAGIC or end > HEADER_BYTES or zlib.crc32(header[_HEAD.size - 4 : end]) != checksum:
        return None
    if header[_HEAD.size : _HEAD.size + identity_length] != identity:
        return None
    return header[_HEAD.size + identity_length : end]


def _remove(paths: list[str]) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
