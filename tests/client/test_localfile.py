"""Files that get their name when they are whole."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from spacesfs.client.localfile import NewFile


def write(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    with NewFile(path, overwrite=overwrite) as file:
        file.write(memoryview(data))
        file.commit()


def test_a_file_appears_when_it_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with NewFile(path, overwrite=False) as file:
        file.write(memoryview(b"half"))
        assert not path.exists()
        file.write(memoryview(b" done"))
        file.commit()
    assert path.read_bytes() == b"half done"
    assert os.listdir(tmp_path) == ["f"]


def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"before")
    with NewFile(path, overwrite=True) as file:
        file.write(memoryview(b"half"))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["f"]


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"before")
    path.chmod(0o640)
    with pytest.raises(FileExistsError) as failure:
        write(path, b"after")
    assert failure.value.filename == str(path)
    write(path, b"after", overwrite=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"after", 0o640)


def test_a_name_that_is_taken_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with NewFile(path, overwrite=False) as file:
        path.write_bytes(b"theirs")
        with pytest.raises(FileExistsError):
            file.commit()
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["f"]


def test_through_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"before")
    link.symlink_to(target)
    write(link, b"after", overwrite=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"after"


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write(tmp_path, b"x", overwrite=True)


def test_a_device_stays_one() -> None:
    write(Path("/dev/null"), b"x", overwrite=True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_disk() -> None:
    with pytest.raises(OSError, match="/dev/full") as failure:
        write(Path("/dev/full"), b"x", overwrite=True)
    assert failure.value.errno == errno.ENOSPC


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failure:
        write(tmp_path / "missing" / "f", b"x")
    assert failure.value.filename == str(tmp_path / "missing" / "f")
