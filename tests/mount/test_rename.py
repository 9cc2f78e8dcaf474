"""Renames of files and directories, onto free names and over each other."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.gate import Gate
from tests.mount.mounting import Account, Mount, MountMaker, fails_with, run

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway


def test_file_to_a_free_name(folder: Path, mount: Mount) -> None:
    (folder / "a").write_bytes(b"content")
    os.rename(folder / "a", folder / "b")
    assert os.listdir(folder) == ["b"]
    assert (folder / "b").read_bytes() == b"content"
    mount.remount()
    assert os.listdir(folder) == ["b"]
    assert (folder / "b").read_bytes() == b"content"


def test_file_into_another_directory(folder: Path, mount: Mount) -> None:
    (folder / "from").mkdir()
    (folder / "to").mkdir()
    (folder / "from" / "f").write_bytes(b"moved")
    os.rename(folder / "from" / "f", folder / "to" / "g")
    mount.remount()
    assert os.listdir(folder / "from") == []
    assert os.listdir(folder / "to") == ["g"]
    assert (folder / "to" / "g").read_bytes() == b"moved"


def test_file_over_file(folder: Path, mount: Mount) -> None:
    (folder / "new").write_bytes(b"new")
    (folder / "old").write_bytes(b"old, longer")
    with (folder / "old").open("rb", buffering=0) as reader:
        os.rename(folder / "new", folder / "old")
        assert reader.read() == b"old, longer"
    assert os.listdir(folder) == ["old"]
    assert (folder / "old").read_bytes() == b"new"
    mount.remount()
    assert (folder / "old").read_bytes() == b"new"


def test_saving_as_editors_do(folder: Path, mount: Mount) -> None:
    """Write a temporary file, fsync, rename over the name; many times."""
    for number in range(10):
        temporary = folder / f".doc.{number}.tmp"
        with temporary.open("wb") as handle:
            handle.write(b"version %d" % number)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, folder / "doc")
        assert (folder / "doc").read_bytes() == b"version %d" % number
    assert os.listdir(folder) == ["doc"]
    mount.remount()
    assert os.listdir(folder) == ["doc"]
    assert (folder / "doc").read_bytes() == b"version 9"


def test_open_handles_follow_a_renamed_file(folder: Path, mount: Mount) -> None:
    with (folder / "a").open("w+b", buffering=0) as handle:
        handle.write(b"before")
        os.rename(folder / "a", folder / "b")
        handle.write(b" after")
        assert os.pread(handle.fileno(), 100, 0) == b"before after"
    assert os.listdir(folder) == ["b"]
    mount.remount()
    assert os.listdir(folder) == ["b"]
    assert (folder / "b").read_bytes() == b"before after"


def test_directory_over_empty_directory(folder: Path, mount: Mount) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "f").write_bytes(b"inside")
    (folder / "b").mkdir()
    os.rename(folder / "a", folder / "b")
    assert os.listdir(folder) == ["b"]
    mount.remount()
    assert os.listdir(folder) == ["b"]
    assert (folder / "b" / "f").read_bytes() == b"inside"


def _file(path: Path) -> None:
    path.write_bytes(b"file")


def _empty(path: Path) -> None:
    path.mkdir()


def _full(path: Path) -> None:
    path.mkdir()
    (path / "child").write_bytes(b"child")


@pytest.mark.parametrize(
    ("make_source", "make_target", "code"),
    [
        pytest.param(_empty, _full, errno.ENOTEMPTY, id="directory over a full one"),
        pytest.param(_full, _full, errno.ENOTEMPTY, id="full directory over a full one"),
        pytest.param(_file, _empty, errno.EISDIR, id="file over directory"),
        pytest.param(_file, _full, errno.EISDIR, id="file over full directory"),
        pytest.param(_empty, _file, errno.ENOTDIR, id="directory over file"),
    ],
)
def test_refused(
    folder: Path, make_source: Callable[[Path], None], make_target: Callable[[Path], None], code: int
) -> None:
    make_source(folder / "source")
    make_target(folder / "target")
    before = sorted(folder.rglob("*"))
    with fails_with(code):
        os.rename(folder / "source", folder / "target")
    assert sorted(folder.rglob("*")) == before


def test_directory_into_itself_is_refused(folder: Path) -> None:
    (folder / "d").mkdir()
    with fails_with(errno.EINVAL):
        os.rename(folder / "d", folder / "d" / "e")


def test_missing_source(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        os.rename(folder / "nothing", folder / "b")
    assert os.listdir(folder) == []


def test_file_onto_itself_changes_nothing(folder: Path) -> None:
    (folder / "a").write_bytes(b"content")
    os.rename(folder / "a", folder / "a")
    assert (folder / "a").read_bytes() == b"content"


def test_no_replace_is_honoured(folder: Path) -> None:
    """``mv --no-clobber`` asks for RENAME_NOREPLACE where the kernel offers it."""
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    run("mv", "--no-clobber", "a", "c", cwd=folder)
    run("bash", "-c", "mv --no-clobber b c || true", cwd=folder)
    assert (folder / "b").read_bytes() == b"b"
    assert (folder / "c").read_bytes() == b"a"


def test_tree_of_200_files(folder: Path, mount: Mount) -> None:
    content = {f"d{number % 7}/s{number % 3}/f{number}": os.urandom(number * 10) for number in range(200)}
    for name, data in content.items():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_bytes(data)
    (folder / "tree" / "empty").mkdir()

    os.rename(folder / "tree", folder / "moved")
    assert os.listdir(folder) == ["moved"]
    assert _files(folder / "moved") == content
    mount.remount()
    assert os.listdir(folder) == ["moved"]
    assert _files(folder / "moved") == content
    assert os.listdir(folder / "moved" / "empty") == []


def test_tree_with_an_open_file(folder: Path, mount: Mount) -> None:
    (folder / "a").mkdir()
    with (folder / "a" / "f").open("w+b", buffering=0) as handle:
        handle.write(b"one ")
        os.rename(folder / "a", folder / "b")
        handle.write(b"two")
    (folder / "b" / "g").write_bytes(b"later")
    mount.remount()
    assert os.listdir(folder) == ["b"]
    assert _files(folder / "b") == {"f": b"one two", "g": b"later"}


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_two_large_files_change_places_and_are_patched(s3: S3Client, mount: Mount, folder: Path) -> None:
    """Each needs most of the other's object: one of them is put aside, and that is where the patch takes it from."""
    contents = {name: os.urandom(20 << 20) for name in ("a", "b")}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    mount.sync()
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    for name in ("a", "b"):
        with (folder / name).open("r+b") as file:
            file.seek(10 << 20)
            file.write(b"patched")
    mount.sync()
    for name, content in (("a", contents["b"]), ("b", contents["a"])):
        expected = content[: 10 << 20] + b"patched" + content[(10 << 20) + 7 :]
        reply = s3.get_object(Bucket=mount.source, Key=f"{folder.name}/{name}")
        assert reply["Body"].read() == expected
    listed = s3.list_objects_v2(Bucket=mount.source, Prefix=f"{folder.name}/")["Contents"]
    assert [entry["Key"].partition("/")[2] for entry in listed] == ["", "a", "b"]


def test_a_large_file_renamed_before_its_old_name_is_taken(s3: S3Client, mount: Mount, folder: Path) -> None:
    """Its upload began under the old name; that somebody else has that by now is no conflict of the new one."""
    content = os.urandom(20 << 20)
    (folder / "old").write_bytes(content)
    (folder / "old").rename(folder / "new")
    s3.put_object(Bucket=mount.source, Key=f"{folder.name}/old", Body=b"theirs")
    mount.sync()
    held = {
        entry["Key"].partition("/")[2]: s3.get_object(Bucket=mount.source, Key=entry["Key"])["Body"].read()
        for entry in s3.list_objects_v2(Bucket=mount.source, Prefix=f"{folder.name}/")["Contents"]
    }
    assert held == {"": b"", "old": b"theirs", "new": content}


def test_a_rename_while_an_earlier_version_goes_out(rgw: RadosGateway, s3: S3Client, new_mount: MountMaker) -> None:
    """The version whose properties the file was to keep is replaced, by our own hand, before it is sent."""
    with Gate(rgw.endpoint) as gate:
        mount: Mount = new_mount(account=Account(gate.url, rgw.access_key, rgw.secret_key))
        assert not (mount.path / "b").exists()
        (mount.path / "a").write_bytes(b"first")
        mount.sync()
        gate.shut()
        (mount.path / "a").write_bytes(b"second")
        time.sleep(2)  # until the request waits at the gate; too short only makes the test easier
        (mount.path / "a").write_bytes(b"third")
        gate.reopen()
        (mount.path / "a").rename(mount.path / "b")
        mount.sync()
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=mount.source)["Contents"]] == ["b"]
        assert s3.get_object(Bucket=mount.source, Key="b")["Body"].read() == b"third"
