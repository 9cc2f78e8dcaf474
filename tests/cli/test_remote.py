"""``spacesfs ls``, ``stat``, ``cat``, ``du`` and ``rm`` on a real server."""

from __future__ import annotations

import pytest
from types_boto3_s3 import S3Client

from spacesfs.cli import remote
from tests.cli.conftest import Cli

KEYS = ("a.txt", "photos/1.jpg", "photos/2.jpg", "photos/2023/x.jpg", "photos/2024/y.jpg", "photos.txt", "z[1].txt")
HOSTILE = "evil\x1b[31m\n\x9b2J\u202ename"


@pytest.fixture
def space(s3: S3Client, bucket_name: str) -> str:
    """A bucket with some objects."""
    for key in KEYS:
        s3.put_object(Bucket=bucket_name, Key=key, Body=key.encode())
    return bucket_name


def keys(s3: S3Client, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        ("", ["a.txt", "photos.txt", "photos/", "z[1].txt"]),
        ("photos", ["1.jpg", "2.jpg", "2023/", "2024/"]),
        ("photos/", ["1.jpg", "2.jpg", "2023/", "2024/"]),
        ("photos/1.jpg", ["photos/1.jpg"]),
        ("photos/*.jpg", ["photos/1.jpg", "photos/2.jpg"]),
        ("photos/202?", ["x.jpg", "y.jpg"]),
        ("*/202[4]/*", ["photos/2024/y.jpg"]),
        ("p*", ["photos.txt", "1.jpg", "2.jpg", "2023/", "2024/"]),
        ("p*/", ["1.jpg", "2.jpg", "2023/", "2024/"]),
        ("z[1].txt", ["z[1].txt"]),
    ],
)
def test_ls(cli: Cli, space: str, key: str, lines: list[str]) -> None:
    assert cli("ls", f"{space}:{key}").out.splitlines() == lines


def test_ls_takes_a_bare_bucket_and_an_s3_url(cli: Cli, space: str) -> None:
    assert cli("ls", space).out == cli("ls", f"s3://{space}").out == cli("ls", f"{space}:").out
    assert cli("ls", f"s3://{space}/photos/1.jpg").out == "photos/1.jpg\n"


def test_ls_recursive_and_long(cli: Cli, space: str) -> None:
    assert cli("ls", "-r", space).out.splitlines() == sorted(KEYS)
    size, day, time, name = cli("ls", "-l", f"{space}:a.txt").out.split()
    assert (size, name) == ("5", "a.txt")
    assert len(day) + len(time) == 18


def test_ls_for_programs(cli: Cli, space: str) -> None:
    listed = cli("ls", "--json", f"{space}:photos").json
    assert [(entry["key"], entry["type"]) for entry in listed] == [
        ("photos/1.jpg", "object"),
        ("photos/2.jpg", "object"),
        ("photos/2023/", "folder"),
        ("photos/2024/", "folder"),
    ]
    assert listed[0]["size"] == len("photos/1.jpg")
    assert set(listed[0]) == {"bucket", "key", "type", "size", "modified", "etag"}


@pytest.mark.parametrize("command", ["ls", "stat", "cat", "du", "rm"])
@pytest.mark.parametrize("key", ["missing", "missing/", "miss*", "photos/1.jpg/"])
def test_what_is_not_there(cli: Cli, space: str, command: str, key: str) -> None:
    assert cli(command, f"{space}:{key}", status=1).complaint.startswith(f"{space}:{key}: no")


def test_an_empty_bucket_is_there(cli: Cli, bucket_name: str) -> None:
    assert cli("ls", bucket_name).out == ""
    assert "0 objects" in cli("du", bucket_name).out


def test_a_bucket_that_is_not_there(cli: Cli) -> None:
    assert "'no-such-bucket'" in cli("ls", "no-such-bucket", status=1).complaint


def test_no_rights(cli: Cli, space: str, stranger: str) -> None:
    for command in ("ls", "stat", "cat", "du", "rm"):
        complaint = cli(command, f"{space}:a.txt", status=1).complaint
        assert "AccessDenied" in complaint
        assert stranger not in complaint


def test_stat(cli: Cli, s3: S3Client, bucket_name: str) -> None:
    s3.put_object(
        Bucket=bucket_name,
        Key="dir/k",
        Body=b"abc",
        ContentType="text/x-own",
        CacheControl="no-cache",
        Metadata={"a": "b"},
        ACL="public-read",
        Tagging="t=1",
    )
    facts = cli("stat", "--json", f"{bucket_name}:dir/k").json
    assert facts["url"].endswith(f"/{bucket_name}/dir/k")
    expected = {"key": "dir/k", "size": 3, "etag": "900150983cd24fb0d6963f7d28e17f72", "content-type": "text/x-own"}
    expected |= {"cache-control": "no-cache", "metadata": {"a": "b"}, "acl": "public-read", "tags": "t=1"}
    assert expected.items() <= facts.items()
    lines = cli("stat", f"{bucket_name}:dir/k").out.splitlines()
    assert {"size: 3", "metadata.a: b", "acl: public-read"} <= set(lines)
    assert cli("stat", "--json", f"{bucket_name}:dir").json["type"] == "folder"
    assert cli("stat", "--json", bucket_name).json["versioning"] == "never"


def test_cat(cli: Cli, space: str) -> None:
    assert cli("cat", f"{space}:a.txt", f"{space}:photos/*.jpg").out == "a.txtphotos/1.jpgphotos/2.jpg"
    assert "is a folder" in cli("cat", f"{space}:photos", status=1).complaint
    assert "is not in a Space" in cli("cat", "a.txt", status=2).complaint


def test_du(cli: Cli, space: str) -> None:
    [photos, one] = cli("du", "--json", f"{space}:photos", f"{space}:a.txt").json
    size = sum(len(key) for key in KEYS if key.startswith("photos/"))
    assert photos == {"place": f"{space}:photos/", "objects": 4, "bytes": size}
    assert (one["objects"], one["bytes"]) == (1, 5)
    assert "4 objects" in cli("du", f"{space}:photos").out


def test_rm(cli: Cli, space: str, s3: S3Client) -> None:
    assert "is a folder; add -r" in cli("rm", f"{space}:photos", status=1).complaint
    assert keys(s3, space) == sorted(KEYS)
    assert f"would delete {space}:photos/1.jpg" in cli("rm", "-rn", f"{space}:photos").out
    assert keys(s3, space) == sorted(KEYS)
    cli("rm", f"{space}:photos/*.jpg", f"{space}:z[1].txt")
    assert keys(s3, space) == ["a.txt", "photos.txt", "photos/2023/x.jpg", "photos/2024/y.jpg"]
    counts = {"objects": 2, "bytes": 2 * len("photos/2023/x.jpg"), "failed": 0}
    assert cli("rm", "-rn", "--json", f"{space}:photos").json == counts
    assert cli("rm", "-r", "--json", f"{space}:photos").json == counts
    assert keys(s3, space) == ["a.txt", "photos.txt"]
    cli("rm", "-r", f"{space}:")
    assert keys(s3, space) == []


def test_rm_of_more_than_a_page(cli: Cli, s3: S3Client, bucket_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_DELETE_KEYS", 3)  # so a few objects are many batches
    for number in range(20):
        s3.put_object(Bucket=bucket_name, Key=f"d/{number:02}", Body=b"x")
    listed = [f"would delete {bucket_name}:d/{number:02}" for number in range(20)]
    assert cli("rm", "-rn", f"{bucket_name}:d").out.splitlines() == listed
    assert cli("rm", "-r", "--json", f"{bucket_name}:d").json == {"objects": 20, "bytes": 20, "failed": 0}
    assert keys(s3, bucket_name) == []


def test_names_steer_no_terminal(cli: Cli, s3: S3Client, bucket_name: str) -> None:
    s3.put_object(Bucket=bucket_name, Key=f"dir/{HOSTILE}", Body=b"", Metadata={"a": "b"})
    place = f"{bucket_name}:dir"
    shown = [cli("ls", place), cli("ls", "-l", place), cli("ls", "--json", place), cli("du", f"{place}/*")]
    shown += [cli("stat", f"{place}/*"), cli("rm", "-rn", place)]
    for done in shown:
        assert "name" in done.out
        assert not set("\x1b\x9b\u202e") & set(done.out)
    assert len(shown[0].out.splitlines()) == 1
    assert shown[2].json[0]["key"] == f"dir/{HOSTILE}"
