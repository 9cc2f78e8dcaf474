"""Names that are hard on URLs, shells, XML or signatures."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mount.mounting import Mount, fails_with

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

NAMES = [
    "plain",
    "with space",
    " leading and trailing ",
    "plus+plus",
    "100%",
    "%2F%20",
    "hash#tag",
    "question?",
    "a&b=c",
    "semi;colon,comma",
    "single'quote",
    'double"quote',
    "back\\slash",
    "new\nline",
    "tab\there",
    "<xml>&amp;",
    "star*[glob]{brace}",
    "tilde~!@$^()",
    "-dash",
    ".hidden",
    "...",
    "colon:pipe|",
    "déjà vu",
    "combining e\u0301 \u030a",
    "precomposed \u00e9",
    "日本語のファイル名",
    "emoji 🚀👩‍👩‍👧",
    "right-to-left עברית",
    "\u2028line separator",
    "x" * 255,
    "é" * 127 + "x",
    "🚀" * 63 + "abc",
]


def test_files(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    """Each name is made, listed, read back after a remount, and is the object's key."""
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    assert sorted(os.listdir(folder)) == sorted(NAMES)
    mount.remount()
    assert sorted(os.listdir(folder)) == sorted(NAMES)
    assert {name: (folder / name).read_bytes() for name in NAMES} == {name: name.encode() for name in NAMES}
    for name in NAMES:
        body = s3.get_object(Bucket=bucket, Key=f"{folder.name}/{name}")["Body"].read()
        assert body == name.encode(), name


def test_directories_renamed_and_removed(folder: Path, mount: Mount) -> None:
    for name in NAMES:
        (folder / name / name).mkdir(parents=True)
        (folder / name / name / "f").write_bytes(name.encode())
    for name in NAMES:
        os.rename(folder / name / name, folder / name / "moved")
    mount.remount()
    assert sorted(os.listdir(folder)) == sorted(NAMES)
    for name in NAMES:
        assert os.listdir(folder / name) == ["moved"], name
        assert (folder / name / "moved" / "f").read_bytes() == name.encode()
        (folder / name / "moved" / "f").unlink()
        (folder / name / "moved").rmdir()
        (folder / name).rmdir()
    assert os.listdir(folder) == []


def test_names_from_another_client(s3: S3Client, bucket: str, folder: Path, mount: Mount) -> None:
    for name in NAMES:
        s3.put_object(Bucket=bucket, Key=f"{folder.name}/foreign/{name}", Body=name.encode())
    directory = folder / "foreign"
    mount.remount()
    assert sorted(os.listdir(directory)) == sorted(NAMES)
    assert {name: (directory / name).read_bytes() for name in NAMES} == {name: name.encode() for name in NAMES}


def test_names_that_differ_only_in_normalisation_are_two(folder: Path, mount: Mount) -> None:
    (folder / "\u00e9").write_bytes(b"one code point")
    (folder / "e\u0301").write_bytes(b"two code points")
    (folder / "E\u0301").write_bytes(b"capital")
    mount.remount()
    assert (folder / "\u00e9").read_bytes() == b"one code point"
    assert (folder / "e\u0301").read_bytes() == b"two code points"
    assert len(os.listdir(folder)) == 3


def test_name_that_is_not_utf8(folder: Path) -> None:
    for act in (
        lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
        os.mkdir,
        lambda path: os.symlink("target", path),
        lambda path: os.rename(folder / "there", path),
    ):
        (folder / "there").touch()
        with fails_with(errno.EILSEQ):
            act(os.fsencode(folder) + b"/latin-1 \xe9")
    assert os.listdir(folder) == ["there"]


def test_segment_over_255_bytes(folder: Path) -> None:
    with fails_with(errno.ENAMETOOLONG):
        (folder / ("x" * 256)).touch()


def test_key_of_1024_bytes_is_the_longest(folder: Path, mount: Mount) -> None:
    """The key counts from the bucket's root, in bytes."""
    directory = folder / ("d" * 250) / ("e" * 250) / ("f" * 250) / ("g" * 50)
    directory.mkdir(parents=True)
    room = 1024 - len(os.fsencode(directory.relative_to(mount.path))) - 1
    (directory / ("x" * room)).write_bytes(b"fits")
    with fails_with(errno.ENAMETOOLONG):
        (directory / ("x" * (room + 1))).write_bytes(b"does not")
    with fails_with(errno.ENAMETOOLONG):
        (directory / ("x" * room + "y")).mkdir()
    mount.remount()
    assert os.listdir(directory) == ["x" * room]
    assert (directory / ("x" * room)).read_bytes() == b"fits"
