"""The place of a mount: what mountinfo says, and what may not be mounted on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import (
    FILE_SYSTEM_TYPE,
    Mount,
    answers,
    check_mountpoint,
    is_stale,
    mount_around,
    mounted_at,
    parse_mountinfo,
    recover_stale_mount,
    unmount,
)

KERNEL_ESCAPES = b" \t\n\\#"  # fs/proc_namespace.c: mangle() and seq_path_root()

segments = st.binary(min_size=1, max_size=20).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)


def escaped(field: bytes) -> bytes:
    """Escape as the kernel does."""
    return b"".join(b"\\%03o" % byte if byte in KERNEL_ESCAPES else bytes([byte]) for byte in field)


def test_lines_of_mountinfo() -> None:
    content = (
        b"22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        b"98 27 0:44 / /mnt/my\\040space rw,nosuid shared:1 master:2 - fuse.spacesfs my-bucket rw,user_id=0\n"
        b"99 27 0:45 / /mnt/sub - tmpfs\n"
        b"a line of another kind\n"
    )
    assert parse_mountinfo(content) == [
        Mount(Path("/proc"), "proc", "proc", "0:21"),
        Mount(Path("/mnt/my space"), FILE_SYSTEM_TYPE, "my-bucket", "0:44"),
    ]
    assert [mount.is_ours for mount in parse_mountinfo(content)] == [False, True]


@given(st.lists(segments, min_size=1, max_size=3), segments)
def test_every_name_survives_the_kernels_escapes(path: list[bytes], source: bytes) -> None:
    mountpoint = b"/" + b"/".join(path)
    line = b"98 27 0:44 / %s rw shared:1 - %s %s rw\n" % (
        escaped(mountpoint),
        FILE_SYSTEM_TYPE.encode(),
        escaped(source),
    )
    [mount] = parse_mountinfo(line)
    assert (os.fsencode(mount.mountpoint), os.fsencode(mount.source)) == (mountpoint, source)


@given(st.binary(max_size=200))
def test_no_content_breaks_the_parser(content: bytes) -> None:
    assert len(parse_mountinfo(content)) <= content.count(b"\n") + 1


def test_mounts_of_this_host() -> None:
    proc = mounted_at(Path("/proc"))
    assert proc is not None
    assert (proc.type, proc.is_ours) == ("proc", False)
    assert mounted_at(Path("/proc/self")) is None
    assert mount_around(Path("/proc/self")) == proc
    assert answers(Path("/proc"))
    assert not is_stale(Path("/proc"))


def test_a_plain_directory_is_no_mount(tmp_path: Path) -> None:
    assert mounted_at(tmp_path) is None
    assert not answers(tmp_path)
    assert not answers(tmp_path / "missing")
    assert recover_stale_mount(tmp_path) is None


def refusal(path: Path) -> str:
    with pytest.raises(MountError) as caught:
        check_mountpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_an_empty_directory_can_be_mounted_on(tmp_path: Path, fuse_device: Path) -> None:
    check_mountpoint(tmp_path)


def test_what_can_not_be_mounted_on(tmp_path: Path) -> None:
    assert "mkdir -p" in refusal(tmp_path / "missing")
    (tmp_path / "file").touch()
    assert "not a directory" in refusal(tmp_path / "file")
    assert "can't be used: Not a directory" in refusal(tmp_path / "file" / "below")
    assert "not empty" in refusal(tmp_path)
    assert "proc (proc) is mounted there" in refusal(Path("/proc"))


AS_NOBODY = """
import os, sys
from pathlib import Path
from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import check_mountpoint
if os.geteuid() == 0:
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
try:
    check_mountpoint(Path(sys.argv[1]))
except MountError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("mode", "words"), [(0o555, "may not write"), (0o1777, "sticky"), (0o000, "Permission denied")]
)
def test_a_directory_that_is_not_the_users(mode: int, words: str) -> None:
    """Tried by another user than its owner, for root may write anywhere."""
    if os.geteuid() != 0 and mode == 0o1777:
        words = ""  # the owner of a sticky directory may use it
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, mode)
        command = [sys.executable, "-c", AS_NOBODY, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        os.chmod(folder, 0o700)
    assert words in done.stdout
    assert len(done.stdout.splitlines()) <= 1


def test_unmounting_what_is_not_mounted_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"can't be unmounted|not mounted") as caught:
        unmount(tmp_path)
    assert "\n" not in str(caught.value)
