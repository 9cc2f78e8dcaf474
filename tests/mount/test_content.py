"""What a file holds: every pattern of reading and writing that ordinary programs use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mount.mounting import Mount, python, run, shell


def test_append(folder: Path, mount: Mount) -> None:
    file = folder / "log"
    file.write_bytes(b"first\n")
    for number in range(20):
        with file.open("ab") as handle:
            handle.write(b"line %d\n" % number)
    expected = b"first\n" + b"".join(b"line %d\n" % number for number in range(20))
    assert file.read_bytes() == expected
    mount.remount()
    assert file.read_bytes() == expected


def test_append_goes_to_the_end_wherever_the_handle_stands(folder: Path) -> None:
    file = folder / "log"
    file.write_bytes(b"0123456789")
    handle = os.open(file, os.O_RDWR | os.O_APPEND)
    other = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.lseek(handle, 2, os.SEEK_SET)
        os.write(handle, b"abc")
        os.write(other, b"XYZ")
        os.write(handle, b"def")
        assert os.pread(handle, 100, 0) == b"0123456789abcXYZdef"
    finally:
        os.close(handle)
        os.close(other)
    assert file.read_bytes() == b"0123456789abcXYZdef"


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 70_000])
def test_truncate_down(folder: Path, mount: Mount, size: int) -> None:
    content = os.urandom(100_000)
    file = folder / "f"
    file.write_bytes(content)
    os.truncate(file, size)
    assert file.stat().st_size == size
    assert file.read_bytes() == content[:size]
    mount.sync()
    assert file.read_bytes() == content[:size]


def test_truncate_up_reads_as_zeros(folder: Path, mount: Mount) -> None:
    file = folder / "f"
    file.write_bytes(b"abc")
    os.truncate(file, 300_000)
    assert file.stat().st_size == 300_000
    assert file.read_bytes() == b"abc" + bytes(299_997)
    mount.remount()
    assert file.read_bytes() == b"abc" + bytes(299_997)


def test_truncate_down_then_up_forgets_what_was_cut(folder: Path, mount: Mount) -> None:
    file = folder / "f"
    file.write_bytes(b"x" * 50_000)
    with file.open("r+b") as handle:
        handle.truncate(10)
        handle.truncate(50_000)
    expected = b"x" * 10 + bytes(49_990)
    assert file.read_bytes() == expected
    mount.remount()
    assert file.read_bytes() == expected


def test_truncate_of_a_file_from_an_earlier_mount(folder: Path, mount: Mount) -> None:
    content = os.urandom(200_000)
    for name in ("down", "up", "by_handle"):
        (folder / name).write_bytes(content)
    mount.remount()
    os.truncate(folder / "down", 150_000)
    os.truncate(folder / "up", 250_000)
    with (folder / "by_handle").open("r+b") as handle:
        handle.truncate(5)
    mount.remount()
    assert (folder / "down").read_bytes() == content[:150_000]
    assert (folder / "up").read_bytes() == content + bytes(50_000)
    assert (folder / "by_handle").read_bytes() == content[:5]


def test_overwrite_in_the_middle(folder: Path, mount: Mount) -> None:
    content = bytearray(os.urandom(1_000_000))
    file = folder / "f"
    file.write_bytes(content)
    mount.remount()
    with file.open("r+b", buffering=0) as handle:
        for offset, patch in ((0, b"head"), (499_999, b"middle" * 1000), (999_998, b"tail beyond the end")):
            handle.seek(offset)
            handle.write(patch)
            content[offset : offset + len(patch)] = patch
        assert os.pread(handle.fileno(), len(content) + 1, 0) == content
    assert file.read_bytes() == content
    mount.remount()
    assert file.read_bytes() == content


def test_opening_with_truncation_replaces_everything(folder: Path, mount: Mount) -> None:
    file = folder / "f"
    file.write_bytes(b"a much longer content than the next one")
    file.write_bytes(b"short")
    assert file.read_bytes() == b"short"
    os.close(os.open(file, os.O_WRONLY | os.O_TRUNC))
    assert file.stat().st_size == 0
    mount.remount()
    assert file.read_bytes() == b""


def test_exclusive_create(folder: Path) -> None:
    file = folder / "lock"
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    with pytest.raises(FileExistsError):
        os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_handles_of_one_file_see_each_other(folder: Path) -> None:
    file = folder / "f"
    writer = os.open(file, os.O_CREAT | os.O_WRONLY)
    reader = os.open(file, os.O_RDONLY)
    second = os.open(file, os.O_RDWR)
    try:
        os.write(writer, b"0123456789")
        assert os.pread(reader, 100, 0) == b"0123456789"
        os.pwrite(second, b"AB", 4)
        assert os.pread(reader, 100, 0) == b"0123AB6789"
        os.ftruncate(writer, 6)
        assert os.pread(second, 100, 0) == b"0123AB"
        assert os.fstat(reader).st_size == 6
        os.close(writer)
        writer = os.open(file, os.O_WRONLY)
        os.pwrite(second, b"z", 0)
        assert os.pread(reader, 100, 0) == b"z123AB"
    finally:
        for handle in (writer, reader, second):
            os.close(handle)
    assert file.read_bytes() == b"z123AB"


def test_reading_while_another_process_writes(folder: Path) -> None:
    """A follower sees a prefix of what will be written, never anything else."""
    out = shell(
        """
        (for i in $(seq 1 60); do echo "line $i"; sleep 0.02; done > grow) &
        for _ in $(seq 30); do sleep 0.05; cp grow "seen.$_" 2>/dev/null || true; done
        wait
        for seen in seen.*; do head -c "$(stat -c %s "$seen")" grow | cmp - "$seen"; done
        seq -f 'line %g' 1 60 | cmp - grow && echo right
        """,
        folder,
    )
    assert out == "right\n"


def test_reads_and_writes_go_on_after_unlink(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"still here")
    with file.open("r+b", buffering=0) as handle:
        file.unlink()
        assert not file.exists()
        assert os.listdir(folder) == []
        assert handle.read() == b"still here"
        handle.write(b", and longer")
        assert os.pread(handle.fileno(), 100, 0) == b"still here, and longer"
        assert os.fstat(handle.fileno()).st_size == 22
    assert os.listdir(folder) == []


def test_a_new_file_under_the_name_of_an_unlinked_open_one(folder: Path, mount: Mount) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    with file.open("r+b", buffering=0) as old:
        file.unlink()
        file.write_bytes(b"new content")
        assert old.read() == b"old"
        old.write(b"er")
        assert file.read_bytes() == b"new content"
    mount.remount()
    assert file.read_bytes() == b"new content"


def test_a_temporary_file_without_a_name_is_gone_after_close(folder: Path, mount: Mount) -> None:
    with (folder / "scratch").open("w+b", buffering=0) as handle:
        (folder / "scratch").unlink()
        handle.write(b"scratch")
        assert os.pread(handle.fileno(), 10, 0) == b"scratch"
    mount.remount()
    assert os.listdir(folder) == []


def test_redirections_that_sleep_before_and_between_writes(folder: Path, mount: Mount) -> None:
    shell(
        """
        { sleep 1; echo a; sleep 1; echo b; } > slow &
        (sleep 1; echo x) >> late &
        : > nothing
        echo one > twice; (sleep 1; echo two) >> twice
        echo gone > emptied; : > emptied
        wait
        """,
        folder,
    )
    expected = {"slow": "a\nb\n", "late": "x\n", "nothing": "", "twice": "one\ntwo\n", "emptied": ""}
    assert {name: (folder / name).read_text() for name in expected} == expected
    mount.remount()
    assert {name: (folder / name).read_text() for name in expected} == expected


def test_mmap_stores_after_close(folder: Path, mount: Mount) -> None:
    file = folder / "mapped"
    file.write_bytes(bytes(3 * 4096))
    script = """
import mmap, os, sys
handle = os.open(sys.argv[1], os.O_RDWR)
view = mmap.mmap(handle, 0)
os.close(handle)
view[4090:4100] = b"ten bytes!"
view.flush()
view[0:5] = b"start"
view.close()
"""
    python(script, file)
    expected = bytearray(3 * 4096)
    expected[0:5], expected[4090:4100] = b"start", b"ten bytes!"
    assert file.read_bytes() == expected
    mount.remount()
    assert file.read_bytes() == expected


def test_sparse_file_reads_as_zeros(folder: Path, mount: Mount) -> None:
    file = folder / "sparse"
    with file.open("wb", buffering=0) as handle:
        handle.seek(5_000_000)
        handle.write(b"end")
        handle.seek(1_000_000)
        handle.write(b"middle")
    expected = bytearray(5_000_003)
    expected[1_000_000:1_000_006], expected[5_000_000:] = b"middle", b"end"
    assert file.read_bytes() == expected
    mount.remount()
    assert file.read_bytes() == expected


def test_header_patched_after_a_long_stream(folder: Path, mount: Mount) -> None:
    """What zip and mp4 writers do: a stream past the multipart threshold, then the header filled in."""
    block = os.urandom(1 << 20)
    file = folder / "movie"
    with file.open("wb", buffering=0) as handle:
        handle.write(b"size unknown....")
        for number in range(96):
            handle.write(number.to_bytes(8, "big") + block[8:])
        handle.seek(0)
        handle.write(b"size: %010d" % (96 << 20))
    expected = b"size: %010d" % (96 << 20) + b"".join(number.to_bytes(8, "big") + block[8:] for number in range(96))
    assert file.stat().st_size == len(expected)
    mount.remount()
    assert file.read_bytes() == expected


def test_patch_and_append_to_a_large_file(folder: Path, mount: Mount) -> None:
    """An edit of a large object that an earlier mount wrote keeps every byte that it did not touch."""
    content = bytearray(os.urandom(1 << 20) * 80)
    file = folder / "image"
    file.write_bytes(content)
    mount.remount()
    with file.open("r+b", buffering=0) as handle:
        handle.seek(41_000_000)
        handle.write(b"patched")
        content[41_000_000:41_000_007] = b"patched"
    mount.sync()
    with file.open("ab", buffering=0) as handle:
        handle.write(b"appended")
        content += b"appended"
    mount.remount()
    assert file.stat().st_size == len(content)
    assert file.read_bytes() == content


def test_write_after_fsync_and_between_closes(folder: Path, mount: Mount) -> None:
    file = folder / "f"
    first = os.open(file, os.O_CREAT | os.O_RDWR)
    os.write(first, b"one ")
    os.fsync(first)
    second = os.dup(first)
    os.close(first)
    os.write(second, b"two ")
    os.fsync(second)
    os.write(second, b"three")
    os.close(second)
    assert file.read_bytes() == b"one two three"
    mount.remount()
    assert file.read_bytes() == b"one two three"


def test_copy_within_the_mount(folder: Path) -> None:
    content = os.urandom(3_000_000)
    (folder / "a").write_bytes(content)
    run("cp", "a", "b", cwd=folder)
    run("cmp", "a", "b", cwd=folder)
    assert (folder / "b").read_bytes() == content
