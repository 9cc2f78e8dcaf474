"""``spacesfs put``, ``get``, ``cp`` and ``mv`` on a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from types_boto3_s3 import S3Client

from spacesfs.client.buffers import PIECE_BYTES
from spacesfs.client.client import Bucket
from spacesfs.client.models import ObjectVersion
from tests.cli.conftest import Cli
from tests.conftest import remove_bucket
from tests.mount.gate import Gate
from tests.mount.mounting import wait_until
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

FILES = {
    "a.txt": b"a",
    "b.html": b"<p>",
    "sub/c": b"",
    "sub/deep/d +é.txt": b"d" * 300_000,
    "big": b"x" * (PIECE_BYTES + 7),
}
MTIME_NS = 1_700_000_000_123_456_789


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with files."""
    root = tmp_path / "tree"
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stored(s3: S3Client, bucket: str) -> dict[str, bytes]:
    listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {entry["Key"]: s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in listed}


def prefixed(prefix: str) -> dict[str, bytes]:
    return {prefix + name: data for name, data in FILES.items()}


def test_a_folder_there_and_back(cli: Cli, s3: S3Client, bucket_name: str, tree: Path, tmp_path: Path) -> None:
    cli("put", "-r", tree, f"{bucket_name}:up")
    assert stored(s3, bucket_name) == prefixed("up/")
    done = cli("get", "-r", f"{bucket_name}:up", tmp_path / "down", "--json")
    assert done.json == {"files": len(FILES), "bytes": sum(map(len, FILES.values())), "failed": 0}
    assert contents(tmp_path / "down") == FILES
    assert {path.stat().st_mtime_ns for path in (tmp_path / "down").rglob("*") if path.is_file()} == {MTIME_NS}


def test_single_files(cli: Cli, s3: S3Client, bucket_name: str, tree: Path, tmp_path: Path) -> None:
    cli("put", tree / "a.txt", f"{bucket_name}:")
    cli("put", tree / "a.txt", f"{bucket_name}:dir/")
    cli("put", tree / "a.txt", f"{bucket_name}:dir/other")
    assert stored(s3, bucket_name) == dict.fromkeys(("a.txt", "dir/a.txt", "dir/other"), b"a")
    cli("get", f"{bucket_name}:dir/other", tmp_path)
    cli("get", f"{bucket_name}:dir/other", tmp_path / "named")
    cli("get", f"{bucket_name}:dir/other", f"{tmp_path}/new/")
    assert (tmp_path / "new" / "other").is_file()
    assert (tmp_path / "other").read_bytes() == (tmp_path / "named").read_bytes() == b"a"


def test_several_and_globs_keep_their_names(
    cli: Cli, s3: S3Client, bucket_name: str, tree: Path, tmp_path: Path
) -> None:
    cli("put", "-r", tree / "a.txt", tree / "sub", f"{bucket_name}:x")
    assert set(stored(s3, bucket_name)) == {"x/a.txt", "x/sub/c", "x/sub/deep/d +é.txt"}
    cli("get", f"{bucket_name}:x/*.txt", tmp_path / "one")
    assert contents(tmp_path / "one") == {"a.txt": b"a"}
    cli("get", "-r", f"{bucket_name}:x/*", tmp_path / "all")
    assert set(contents(tmp_path / "all")) == {"a.txt", "sub/c", "sub/deep/d +é.txt"}


def test_what_objects_carry(cli: Cli, s3: S3Client, bucket_name: str, tree: Path) -> None:
    cli("put", tree / "b.html", f"{bucket_name}:plain")
    plain = s3.head_object(Bucket=bucket_name, Key="plain")
    assert plain["ContentType"] == "text/html"
    assert plain["Metadata"] == {"mtime": "1700000000.123456789"}
    options = ["--acl=public-read", "--content-type=text/x-own", "--cache-control=no-cache", "--metadata=Note=a=b"]
    cli("put", *options, "--storage-class=STANDARD", tree / "b.html", f"{bucket_name}:dressed")
    cli("cp", f"{bucket_name}:dressed", f"{bucket_name}:copy")
    cli("mv", f"{bucket_name}:dressed", f"{bucket_name}:moved")
    for key in ("copy", "moved"):
        head = s3.head_object(Bucket=bucket_name, Key=key)
        assert (head["ContentType"], head["CacheControl"]) == ("text/x-own", "no-cache")
        assert head["Metadata"] == {"mtime": "1700000000.123456789", "note": "a=b"}
        assert cli("acl", f"{bucket_name}:{key}").out == "public-read\n"
    assert set(stored(s3, bucket_name)) == {"plain", "copy", "moved"}


def test_copies_and_moves_of_folders(cli: Cli, s3: S3Client, bucket_name: str, tree: Path) -> None:
    cli("cp", "-r", tree, f"{bucket_name}:a")
    cli("cp", "-r", f"{bucket_name}:a", f"{bucket_name}:b")
    assert stored(s3, bucket_name) == prefixed("a/") | prefixed("b/")
    cli("mv", "-r", f"{bucket_name}:a", f"{bucket_name}:c/d/")
    assert stored(s3, bucket_name) == prefixed("b/") | prefixed("c/d/")


@pytest.fixture
def other_bucket(s3: S3Client, bucket_name: str) -> Iterator[str]:
    """Another bucket."""
    s3.create_bucket(Bucket=f"{bucket_name}-other")
    yield f"{bucket_name}-other"
    remove_bucket(s3, f"{bucket_name}-other")


def test_between_buckets(cli: Cli, s3: S3Client, bucket_name: str, other_bucket: str, tree: Path) -> None:
    cli("put", "-r", tree, f"{bucket_name}:")
    cli("mv", "-r", f"{bucket_name}:sub", f"{other_bucket}:")
    assert set(stored(s3, other_bucket)) == {"c", "deep/d +é.txt"}


def test_between_servers(cli: Cli, bucket_name: str, other_bucket: str, tree: Path, edge: Edge) -> None:
    config = Path(os.environ["HOME"]) / ".config" / "spacesfs" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[bucket.{other_bucket}]\nendpoint = "{edge.http_url}"\n[bucket.{bucket_name}]\nendpoint = "')
    config.write_text(config.read_text() + os.environ.pop("SPACESFS_ENDPOINT") + '"\n')
    cli("put", "--acl=public-read", "--metadata=a=b", tree / "big", f"{bucket_name}:big")
    cli("cp", f"{bucket_name}:big", f"{other_bucket}:copy")
    facts = cli("stat", "--json", f"{other_bucket}:copy").json
    assert (facts["size"], facts["metadata"]["a"], facts["acl"]) == (len(FILES["big"]), "b", "public-read")
    assert facts["url"].startswith(edge.http_url)
    assert cli("cat", f"{other_bucket}:copy").out.encode() == FILES["big"]


def test_standard_streams(s3: S3Client, bucket_name: str, settings: Path, cli: Cli) -> None:
    command = [sys.executable, "-m", "spacesfs"]
    data = os.urandom(2 * PIECE_BYTES + 1)
    subprocess.run([*command, "put", "-", f"{bucket_name}:dir/k"], input=data, check=True)
    assert stored(s3, bucket_name) == {"dir/k": data}
    assert (
        subprocess.run([*command, "get", f"{bucket_name}:dir/k", "-"], capture_output=True, check=True).stdout == data
    )
    assert "is a folder" in cli("put", "-", f"{bucket_name}:dir/", status=1).complaint
    script = f"{sys.executable} -m spacesfs put <(printf abc) {bucket_name}:piped"
    subprocess.run(["bash", "-c", script], check=True)
    assert cli("cat", f"{bucket_name}:piped").out == "abc"
    for words in (["cat", f"{bucket_name}:dir/k"], ["get", f"{bucket_name}:dir/k", "-"]):
        stopped_reading([*command, *words], data[:3])


def test_several_to_standard_output_come_as_named(cli: Cli, s3: S3Client, bucket_name: str) -> None:
    names = [f"{number:02}" for number in range(40)]
    for name in names:
        s3.put_object(Bucket=bucket_name, Key=f"d/{name}", Body=name.encode() * 1000)
    whole = "".join(name * 1000 for name in names)
    assert cli("get", "-r", f"{bucket_name}:d", "-").out == whole
    assert cli("get", *(f"{bucket_name}:d/{name}" for name in names), "-").out == whole


def stopped_reading(command: list[str], expected: bytes) -> None:
    """Read the beginning of what a command prints and no more; it ends without a word, as by SIGPIPE."""
    with subprocess.Popen(command, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(3) == expected
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_existing_targets(cli: Cli, s3: S3Client, bucket_name: str, tree: Path, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket_name, Key="k", Body=b"theirs")
    s3.put_object(Bucket=bucket_name, Key="l", Body=b"mine")
    target = tmp_path / "f"
    target.write_bytes(b"before")
    for command in (
        ("put", tree / "a.txt", f"{bucket_name}:k"),
        ("put", tree / "big", f"{bucket_name}:k"),
        ("cp", f"{bucket_name}:l", f"{bucket_name}:k"),
        ("mv", f"{bucket_name}:l", f"{bucket_name}:k"),
    ):
        assert cli(*command, "--no-overwrite", status=1).complaint == f"{bucket_name}:k: is there already"
    assert stored(s3, bucket_name) == {"k": b"theirs", "l": b"mine"}
    assert cli("get", f"{bucket_name}:k", target, "--no-overwrite", status=1).complaint == f"{target}: is there already"
    assert target.read_bytes() == b"before"
    cli("get", f"{bucket_name}:k", target)
    assert target.read_bytes() == b"theirs"
    (tmp_path / "dir" / "k").mkdir(parents=True)
    assert "is a directory" in cli("get", f"{bucket_name}:k", tmp_path / "dir", status=1).complaint


def test_what_can_not_be_moved(cli: Cli, s3: S3Client, bucket_name: str, tree: Path, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket_name, Key="k", Body=b"x")
    failing: dict[tuple[str | Path, ...], str] = {
        ("get", f"{bucket_name}:missing", tmp_path): "no such object or folder",
        ("get", f"{bucket_name}:k", tmp_path / "no" / "f"): "No such file or directory",
        ("put", tree / "missing", f"{bucket_name}:"): "No such file or directory",
        ("put", tree, f"{bucket_name}:"): "is a folder; add -r",
        ("cp", tree / "a.txt", tmp_path / "b"): "neither it nor the target is in a Space",
        ("cp", f"{bucket_name}:k", f"{bucket_name}:k"): "onto itself",
        ("mv", f"{bucket_name}:k", f"{bucket_name}:k"): "onto itself",
        ("put", tree / "a.txt", "no-such-bucket:"): "NoSuchBucket",
        ("put", tree / "a.txt", f"{bucket_name}:{'k' * 1025}"): "1,024",
    }
    for command, words in failing.items():
        assert words in cli(*command, status=1).complaint
    wrong: dict[tuple[str | Path, ...], str] = {
        ("put", f"{bucket_name}:k", f"{bucket_name}:l"): "is in a Space",
        ("put", tree, tree): "is not in a Space",
        ("get", tree, tree): "is not in a Space",
        ("mv", tree, f"{bucket_name}:"): "is not in a Space",
        ("put", "--metadata=x", tree, f"{bucket_name}:"): "NAME=VALUE",
        ("put", "--acl=public-read-write", tree, f"{bucket_name}:"): "public-read-write",
    }
    for command, words in wrong.items():
        assert words in cli(*command, status=2).complaint
    assert stored(s3, bucket_name) == {"k": b"x"}


def test_what_is_replaced_while_it_moves_stays(
    cli: Cli, s3: S3Client, bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket=bucket_name, Key="k", Body=b"old")
    copy_object = Bucket.copy_object

    async def copy_and_replace(self: Bucket, *arguments: Any, **named: Any) -> ObjectVersion:
        copied = await copy_object(self, *arguments, **named)
        await self.put("k", b"theirs")
        return copied

    monkeypatch.setattr(Bucket, "copy_object", copy_and_replace)
    assert "was replaced meanwhile" in cli("mv", f"{bucket_name}:k", f"{bucket_name}:l", status=1).complaint
    assert stored(s3, bucket_name) == {"k": b"theirs", "l": b"old"}


def test_a_terminal_shows_a_bar(s3: S3Client, bucket_name: str, tree: Path, settings: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "spacesfs", "put", "-r", str(tree), f"{bucket_name}:"]
    with subprocess.Popen(command, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "80"}) as process:
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # the terminal is gone: how Linux says that nobody holds its other end any more
            while piece := os.read(ours, 65536):
                shown += piece
    os.close(ours)
    assert process.returncode == 0
    assert f"of {len(FILES)} files".encode() in shown
    assert stored(s3, bucket_name) == FILES


def test_no_rights(cli: Cli, s3: S3Client, bucket_name: str, tree: Path, stranger: str) -> None:
    s3.put_object(Bucket=bucket_name, Key="k", Body=b"x")
    s3.put_bucket_acl(Bucket=bucket_name, ACL="public-read")  # who may list may not read
    for command in (
        ("put", tree / "a.txt", f"{bucket_name}:"),
        ("put", tree / "big", f"{bucket_name}:"),
        ("get", f"{bucket_name}:k", tree / "new"),
        ("cp", f"{bucket_name}:k", f"{bucket_name}:l"),
        ("mv", f"{bucket_name}:k", f"{bucket_name}:l"),
        ("rm", f"{bucket_name}:k"),
    ):
        done = cli(*command, status=1)
        assert "HTTP 403" in done.err
        assert stranger not in done.err
    assert not (tree / "new").exists()
    assert stored(s3, bucket_name) == {"k": b"x"}


def test_one_failure_is_not_the_end_of_the_others(cli: Cli, s3: S3Client, bucket_name: str, tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    (tree / "link").symlink_to("nowhere")
    (tree / os.fsdecode(b"not-\xff-text")).write_bytes(b"x")
    done = cli("put", "-r", tree, f"{bucket_name}:", status=1)
    assert stored(s3, bucket_name) == FILES
    said = done.err.splitlines()
    assert len(said) == 4
    assert said[-1] == f"spacesfs: 1 of {len(FILES) + 1} files failed"
    assert any("pipe: left out, neither file nor folder" in line for line in said)
    assert any("link: left out, a link to nowhere" in line for line in said)
    assert any("is not UTF-8" in line for line in said)


HOSTILE = ("../out", "a/../../out", "/etc/out", "b//c", ".", "x/./y", "n" * 256, "data/")


def test_keys_that_are_no_paths_never_lead_out(cli: Cli, s3: S3Client, bucket_name: str, tmp_path: Path) -> None:
    for key in (*HOSTILE, "fine", "folder/", "evil\x1b[31m"):
        s3.put_object(Bucket=bucket_name, Key=key, Body=b"" if key == "folder/" else b"x")
    root = tmp_path / "a" / "b"
    done = cli("get", "-r", f"{bucket_name}:", root, status=1)
    assert contents(tmp_path / "a") == {"b/fine": b"x", "b/evil\x1b[31m": b"x"}
    assert (root / "folder").is_dir()
    assert done.err.splitlines()[-1] == f"spacesfs: {len(HOSTILE)} of {len(HOSTILE) + 3} files failed"
    assert "\x1b" not in done.err
    assert not Path("/etc/out").exists()


def test_a_file_and_a_folder_of_one_name(cli: Cli, s3: S3Client, bucket_name: str, tmp_path: Path) -> None:
    for key in ("a", "a/b"):
        s3.put_object(Bucket=bucket_name, Key=key, Body=b"x")
    cli("get", "-r", f"{bucket_name}:", tmp_path / "d", status=1)
    assert len(contents(tmp_path / "d")) == 1


def test_a_full_disk(s3: S3Client, bucket_name: str, settings: Path, tmp_path: Path) -> None:
    for number in range(20):
        s3.put_object(Bucket=bucket_name, Key=f"{number}", Body=bytes(400_000))
    place = tmp_path / "small"
    place.mkdir()
    script = (
        f'mount -t tmpfs -o size=1M none "{place}" && "{sys.executable}" -m spacesfs get -r {bucket_name}: "{place}"; '
        f'status=$?; ls -A "{place}"; stat -c %s "{place}"/*; exit $status'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith("No space left on device")
    assert ".part" not in done.stdout
    assert set(done.stdout.split()) - {str(number) for number in range(20)} == {"400000"}


both_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def ends_by(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal and expect the process to end as one that a signal has ended, without a word."""
    process.send_signal(number)
    assert process.stderr is not None
    assert process.wait(60) == 128 + number
    assert process.stderr.read().strip() == b""


@both_signals
def test_an_interrupted_put(s3: S3Client, bucket_name: str, settings: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "spacesfs", "put", "-", f"{bucket_name}:k"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(3 * PIECE_BYTES))
        wait_until(lambda: "Uploads" in s3.list_multipart_uploads(Bucket=bucket_name), "no upload is begun")
        ends_by(process, number)
    assert stored(s3, bucket_name) == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket_name)


@both_signals
@pytest.mark.usefixtures("settings")
def test_an_interrupted_get(
    s3: S3Client, rgw: RadosGateway, bucket_name: str, tmp_path: Path, number: signal.Signals
) -> None:
    s3.put_object(Bucket=bucket_name, Key="k", Body=bytes(6 * PIECE_BYTES))
    target = tmp_path / "down"
    target.mkdir()
    with Gate(rgw.endpoint) as gate:
        gate.shuts_after_bytes = 2 * PIECE_BYTES
        command = [sys.executable, "-m", "spacesfs", "get", f"--endpoint={gate.url}", f"{bucket_name}:k", str(target)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            wait_until(lambda: gate.received_bytes >= 2 * PIECE_BYTES, "nothing comes")
            assert [name for name in os.listdir(target) if name.endswith(".part")]
            ends_by(process, number)
    assert os.listdir(target) == []
