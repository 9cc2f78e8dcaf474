"""The files of the page cache on disk, as threads read and write them.

One file holds one page, see `Page`. Its name tells which: ``DIGEST.START.LENGTH``, a digest of endpoint, bucket, key,
ETag and size, in one of 256 folders. A file begins with a block of 4 KiB: what it is of, in full, and a CRC-32 for each
128 KiB, so that a part of a page can be read and trusted. It gets its name only when it is whole. Nothing is synced:
after a loss of power the checksums tell what is good.

Pages whose memory is a mapping go past the kernel's page cache, which costs a tenth of the CPU.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import time
import zlib
from pathlib import Path

from spacesfs.cache.pages import GRAIN_BYTES

HEADER_BYTES = 4096  # keeps what follows aligned to the blocks of the disk
MAX_PAGE_BYTES = 8 << 20  # its checksums fit into the header
KEPT_FREE_BYTES = 256 << 20  # of the file system, for those who can't do without

_FOLDERS = 256
_MAGIC = b"spacesfs page 1\n"
_HEAD = struct.Struct("<16sIHH")  # magic, CRC-32 of the rest of the header, lengths of identity and of checksums
_LENGTH_BITS = 24  # holds MAX_PAGE_BYTES


def pack(start: int, length: int) -> int:
    """Return a page's place in its object as one number; such numbers are in the order of the places."""
    return start << _LENGTH_BITS | length


def unpack(packed: int) -> tuple[int, int]:
    """Return start and length."""
    return packed >> _LENGTH_BITS, packed & (1 << _LENGTH_BITS) - 1


def last_at(offset: int) -> int:
    """Return the highest number of a page that begins at ``offset`` or before."""
    return pack(offset, (1 << _LENGTH_BITS) - 1)


def bytes_on_disk(length: int) -> int:
    """Return what a page takes on the disk."""
    return HEADER_BYTES - (-length // HEADER_BYTES) * HEADER_BYTES


def path_of(directory: Path, digest: bytes, start: int, end: int) -> str:
    """Return the file of a page."""
    name = digest.hex()
    return f"{directory}/{name[:2]}/{name}.{start:x}.{end - start:x}"


def make_folders(directory: Path) -> None:
    """Make the folders that pages lie in."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(_FOLDERS):
        (directory / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)


def scan(directory: Path) -> list[tuple[bytes, list[int], bool]]:
    """Return the pages of each version, the version used least first, and whether it was read again."""
    found: dict[bytes, list[int]] = {}
    used: dict[bytes, float] = {}
    again: set[bytes] = set()
    for number in range(_FOLDERS):
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
        packed = pack(int(start, 16), int(length, 16))
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


def write_page(path: str, identity: bytes, view: memoryview, is_direct: bool) -> bool:  # noqa: FBT001 - run_sync's way
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


def read_page(  # noqa: PLR0917 - run_sync's way
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


def can_be_direct(view: memoryview) -> bool:
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


def remove(paths: list[str]) -> None:
    """Remove files, as far as they are still there."""
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
