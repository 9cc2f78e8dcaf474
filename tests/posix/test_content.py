"""Bytes: sizes, holes, files without a name, mmap, and what stat says of them."""

from __future__ import annotations

import mmap
import os
from typing import Any

from tests.posix.comparing import compared, make, told


@compared
def test_truncate_and_extend() -> Any:
    make("f", b"0123456789")
    seen: list[Any] = []
    for size in (5, 0, 8, 4096, 100_000, 3, 3):
        os.truncate("f", size)
        with open("f", "rb") as file:
            content = file.read()
        seen += [len(content), content[:16], os.stat("f").st_size]
    handle = os.open("f", os.O_RDWR)
    for size in (7, 2, 70_000):
        os.ftruncate(handle, size)
        seen += [os.fstat(handle).st_size, os.pread(handle, 16, 0)]
    os.close(handle)
    return seen


@compared
def test_writing_past_the_end() -> Any:
    handle = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(handle, b"end", 1_000_000)
    seen = [
        os.fstat(handle).st_size,
        os.pread(handle, 10, 0),
        os.pread(handle, 10, 999_995),
        os.pread(handle, 10, 2_000_000),
    ]
    os.pwrite(handle, b"", 5_000_000)
    seen.append(os.fstat(handle).st_size)
    os.close(handle)
    return seen


@compared
def test_unlinked_while_open() -> Any:
    make("f", b"content")
    first, second = os.open("f", os.O_RDWR), os.open("f", os.O_RDONLY)
    os.unlink("f")
    os.pwrite(first, b"CON", 0)
    os.ftruncate(first, 5)
    seen: list[Any] = [os.pread(second, 10, 0), os.fstat(first).st_nlink, os.fstat(second).st_size, told(os.stat, "f")]
    os.fchmod(first, 0o600)
    os.fchown(first, 1, 1)
    os.utime(first, (1, 2))
    found = os.fstat(second)
    seen += [found.st_mode, found.st_uid, found.st_mtime, told(os.fsync, first)]
    make("f", b"another")
    os.close(first)
    seen.append(os.pread(second, 10, 0))
    os.close(second)
    with open("f", "rb") as file:
        return [*seen, file.read()]


@compared
def test_links_blocks_and_sizes() -> Any:
    seen = []
    for size in (0, 1, 512, 513, 4096, 5000):
        make(f"f{size}", b"x" * size)
        found = os.stat(f"f{size}")
        seen.append((found.st_nlink, found.st_size, (found.st_blocks > 0) == (size > 0), found.st_blksize >= 512))
    return seen


@compared
def test_mapped_shared_and_private() -> Any:
    make("f", b"x" * 10_000)
    handle = os.open("f", os.O_RDWR)
    shared = mmap.mmap(handle, 0)
    private = mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    shared[4000:4004] = b"ABCD"
    private[0:3] = b"own"
    seen: list[Any] = [os.pread(handle, 4, 4000), private[4000:4004], os.pread(handle, 3, 0)]
    os.pwrite(handle, b"WXYZ", 8000)
    seen.append(shared[8000:8004])
    shared.flush()
    shared.close()
    private.close()
    os.close(handle)
    with open("f", "rb") as file:
        content = file.read()
    return [*seen, content[4000:4004], content[8000:8004], content[:3], len(content)]


@compared
def test_mapped_after_close_and_unlink() -> Any:
    make("f", b"x" * 5000)
    handle = os.open("f", os.O_RDWR)
    mapped = mmap.mmap(handle, 0)
    os.close(handle)
    os.unlink("f")
    mapped[0:2] = b"ab"
    seen = mapped[:4]
    mapped.close()
    return seen


@compared
def test_data_and_holes() -> Any:
    """All of a file is data to the kernel: that is always right."""
    make("f", b"x" * 10_000)
    handle = os.open("f", os.O_RDWR)
    seen = [
        told(os.lseek, handle, 0, os.SEEK_DATA),
        told(os.lseek, handle, 0, os.SEEK_HOLE),
        told(os.lseek, handle, 5_000, os.SEEK_DATA),
        told(os.lseek, handle, 10_000, os.SEEK_DATA),
        told(os.lseek, handle, 10_000, os.SEEK_HOLE),
        told(os.lseek, handle, 20_000, os.SEEK_HOLE),
        told(os.lseek, handle, -3, os.SEEK_END),
    ]
    os.close(handle)
    return seen


@compared
def test_posix_fallocate() -> Any:
    handle = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(handle, b"begin")
    seen = [told(os.posix_fallocate, handle, 0, 20_000), os.fstat(handle).st_size, os.pread(handle, 8, 0)]
    seen.append(told(os.posix_fallocate, handle, 0, 0))
    os.close(handle)
    return seen


def test_fallocate_is_refused(mounted: Any) -> None:
    """Documented: the library that talks to the kernel offers no hook."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(mounted / "f", os.O_CREAT | os.O_RDWR)
    assert libc.fallocate(handle, 0, ctypes.c_long(0), ctypes.c_long(4096)) == -1
    assert ctypes.get_errno() == errno.ENOTSUP
    os.close(handle)


@compared
def test_vectors_and_sendfile() -> Any:
    make("f", b"0123456789" * 1000)
    reading, writing = os.open("f", os.O_RDONLY), os.open("g", os.O_CREAT | os.O_RDWR)
    seen: list[Any] = [os.sendfile(writing, reading, 0, 10_000), os.fstat(writing).st_size]
    seen.append(os.pwritev(writing, [b"ab", b"cd"], 10_000))
    buffers = [bytearray(3), bytearray(5)]
    seen += [os.preadv(writing, buffers, 9_999), bytes(buffers[0]), bytes(buffers[1])]
    seen.append(os.copy_file_range(reading, writing, 100, 0, 50_000))
    seen.append(os.fstat(writing).st_size)
    os.close(reading)
    os.close(writing)
    return seen


@compared
def test_sync_calls() -> Any:
    handle = os.open("f", os.O_CREAT | os.O_RDWR)
    os.write(handle, b"x")
    seen = [told(os.fsync, handle), told(os.fdatasync, handle)]
    os.close(handle)
    return seen


@compared
def test_advice_and_read_ahead() -> Any:
    make("f", b"x" * 10_000)
    handle = os.open("f", os.O_RDONLY)
    seen = [told(os.posix_fadvise, handle, 0, 0, advice) for advice in (os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED)]
    seen.append(os.pread(handle, 5, 0))
    os.close(handle)
    return seen


@compared
def test_attribute_errors() -> Any:
    make("f")
    os.mkdir("d")
    os.symlink("f", "l")
    os.mkfifo("p")
    seen: list[Any] = []
    for path in ("f", "d"):
        seen += [
            told(os.getxattr, path, "user.none"),
            told(os.removexattr, path, "user.none"),
            told(os.setxattr, path, "user.a", b"1", os.XATTR_REPLACE),
            told(os.setxattr, path, "user.a", b"1", os.XATTR_CREATE),
            told(os.setxattr, path, "user.a", b"1", os.XATTR_CREATE),
            told(os.setxattr, path, "user.a", b"22", os.XATTR_REPLACE),
            told(os.setxattr, path, "user." + "n" * 250, b"1"),
            told(os.setxattr, path, "user." + "n" * 251, b"1"),
            told(os.setxattr, path, "user.empty", b""),
            told(os.getxattr, path, "user.empty"),
            told(os.getxattr, path, "user.a"),
            told(os.removexattr, path, "user." + "n" * 250),
            sorted(os.listxattr(path)),
        ]
    return [
        *seen,
        told(os.setxattr, "l", "user.x", b"1", follow_symlinks=False),
        told(os.setxattr, "p", "user.x", b"1"),
        told(os.setxattr, "f", "nonsense", b"1"),
        told(os.setxattr, "f", "", b"1"),
        told(os.listxattr, "absent"),
    ]


@compared
def test_attribute_sizes() -> Any:
    """The buffer too small: ERANGE; none: the size."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    make("f")
    os.setxattr("f", "user.a", b"12345")
    seen = []
    for size in (0, 4, 5, 100):
        buffer = ctypes.create_string_buffer(max(size, 1))
        got = libc.getxattr(b"f", b"user.a", buffer, size)
        seen.append((got, errno.errorcode[ctypes.get_errno()] if got < 0 else None))
        got = libc.listxattr(b"f", buffer, size)
        seen.append((got, errno.errorcode[ctypes.get_errno()] if got < 0 else None))
    return seen
