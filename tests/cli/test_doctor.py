"""``spacesfs doctor``: what it finds, what it advises, and that it leaves nothing behind."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from types_boto3_s3 import S3Client

from spacesfs import __version__
from spacesfs.cli import bundle as bundles
from spacesfs.cli import checks, doctor
from tests.cli.conftest import Cli
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

OF_A_SPACE = ["key", "region", "DNS", "TLS", "clock", "list", "read", "write", "delete"]
OF_THE_MACHINE = ["FUSE", "fuse.conf", "updatedb", "cache", "state", "disk"]


@pytest.fixture(autouse=True)
def cache(settings: Path, monkeypatch: pytest.MonkeyPatch, fuse_device: Path) -> None:
    """A cache folder of the test's own, a disk that counts as large enough, and no mounts of other tests."""
    monkeypatch.setenv("SPACESFS_CACHE_DIR", str(settings / "cache"))
    monkeypatch.setattr(checks, "_LEAST_FREE_BYTES", 0)
    monkeypatch.setattr(checks, "_UPDATEDB_CONF", settings / "no-updatedb.conf")
    monkeypatch.setattr(doctor, "all_statuses", list)
    monkeypatch.setattr(bundles, "all_statuses", list)
    monkeypatch.setattr(bundles, "waiting_unmounted", lambda _: [])


def fixes(found: list[dict[str, Any]]) -> dict[str, str]:
    return {finding["name"]: finding["fix"] for finding in found if not finding["ok"]}


def test_all_is_well(cli: Cli, s3: S3Client, bucket_name: str, settings: Path) -> None:
    found = cli("doctor", bucket_name, "--json").json
    assert [finding["name"] for finding in found] == OF_A_SPACE + OF_THE_MACHINE
    assert fixes(found) == {}
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket_name)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket_name)
    assert list(settings.iterdir()) == []


def test_each_line_says_ok(cli: Cli, s3: S3Client, bucket_name: str) -> None:
    s3.put_object(Bucket=bucket_name, Key="k", Body=b"")
    lines = cli("doctor", f"{bucket_name}:").out.splitlines()
    assert all(line.startswith("ok   ") for line in lines)
    assert len(lines) >= len(OF_A_SPACE + OF_THE_MACHINE)


def test_without_a_bucket(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "list" not in {finding["name"] for finding in cli("doctor", "--json").json}
    monkeypatch.delenv("SPACESFS_ENDPOINT")
    assert [finding["name"] for finding in cli("doctor", "--json").json][:7] == ["key", *OF_THE_MACHINE]


def test_versions_are_not_disturbed(cli: Cli, s3: S3Client, bucket_name: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket_name, VersioningConfiguration={"Status": "Enabled"})
    assert "not tried" in cli("doctor", bucket_name).out
    assert "DeleteMarkers" not in s3.list_object_versions(Bucket=bucket_name)


def test_over_tls(cli: Cli, bucket_name: str, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACESFS_ENDPOINT", edge.https_url)
    found = cli("doctor", bucket_name, "--json", status=1).json
    assert "--ca-bundle" in fixes(found)["TLS"]
    assert "list" not in {finding["name"] for finding in found}
    assert fixes(cli("doctor", bucket_name, "--json", "--ca-bundle", edge.ca_bundle).json) == {}


def test_no_key(cli: Cli, bucket_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ACCESS_KEY_ID")
    monkeypatch.delenv("SPACES_SECRET_ACCESS_KEY")
    found = cli("doctor", bucket_name, "--json", status=1).json
    assert "SPACES_ACCESS_KEY_ID" in fixes(found)["key"]
    assert [finding["name"] for finding in found][1:7] == OF_THE_MACHINE


def test_a_key_that_may_not(cli: Cli, bucket_name: str, stranger: str) -> None:
    done = cli("doctor", bucket_name, status=1)
    assert "FIX  list" in done.out
    assert stranger not in done.out


def test_a_key_that_may_only_read(cli: Cli, s3: S3Client, bucket_name: str, stranger: str) -> None:
    s3.put_bucket_acl(Bucket=bucket_name, ACL="public-read")
    s3.put_object(Bucket=bucket_name, Key="k", Body=b"", ACL="public-read")
    found = fixes(cli("doctor", bucket_name, "--json", status=1).json)
    assert "--read-only" in found["write"]
    assert not {"list", "read"} & set(found)


@pytest.mark.parametrize(
    ("endpoint", "name"), [("http://127.0.0.1:9", "connection"), ("https://no-such-host.invalid", "DNS")]
)
def test_no_server(cli: Cli, endpoint: str, name: str) -> None:
    assert set(fixes(cli("doctor", "my-bucket", "--json", "--endpoint", endpoint, status=1).json)) == {name}


def test_a_wrong_clock() -> None:
    assert checks._clock("Sun, 06 Nov 1994 08:49:37 GMT").fix  # noqa: SLF001 - no server has another time for us
    assert not checks._clock("nonsense").fix  # noqa: SLF001


def test_the_machine(cli: Cli, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = Path("/dev/shm/spacesfs-test")  # noqa: S108 - it is asked about and not made
    monkeypatch.setenv("SPACESFS_STATE_DIR", str(in_memory))
    monkeypatch.setenv("SPACESFS_CACHE_DIR", "/proc/spacesfs-test")
    monkeypatch.setattr(checks, "_LEAST_FREE_BYTES", 2**60)
    monkeypatch.setenv("SPACESFS_CACHE_SIZE", "900T")
    found = fixes(cli("doctor", "--json", status=1).json)
    assert set(found) == {"state", "cache", "disk"}
    assert not in_memory.exists()


def contents(bundle: Path) -> dict[str, str]:
    with tarfile.open(bundle) as archive:
        files = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def test_a_bundle_has_all_and_no_secret(
    cli: Cli, rgw: RadosGateway, bucket_name: str, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"AWS_SESSION_TOKEN": "token/of+the=session", "DIGITALOCEAN_TOKEN": "dop_v1_0123456789abcdef"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    log = settings / "state" / "log" / f"{bucket_name}.log"
    log.parent.mkdir(parents=True)
    spelled = [quote(secret, safe="") for secret in secrets.values()]
    log.write_text("".join(f"GET /?token={secret}&X-Amz-Signature=0123456789abcdef\n" for secret in spelled))
    bundle = settings / "help.tar.gz"
    assert str(bundle) in cli("doctor", bucket_name, "--bundle", bundle).err
    assert bundle.stat().st_mode & 0o077 == 0
    found = contents(bundle)
    parts = {"version", "doctor", "config", "environment", "status", "journals", "mounts", "kernel", "system-log"}
    assert {name.partition(".")[0] for name in found} == parts | {f"log/{bucket_name}"}
    assert json.loads(found["version.json"])["spacesfs"] == __version__
    assert json.loads(found["status.json"]) == []
    assert rgw.endpoint in found["config.txt"]
    assert "SPACES_SECRET_ACCESS_KEY" in found["environment.txt"]
    assert found[f"log/{bucket_name}.log"].count("[hidden]") == 4
    for name, text in found.items():
        for secret in (rgw.secret_key, *secrets.values(), *spelled, "0123456789abcdef"):
            assert secret not in text, name
    assert "is there already" in cli("doctor", "--bundle", bundle, status=1).complaint


def test_a_bundle_is_made_also_of_what_is_broken(cli: Cli, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACESFS_MEMORY", "much")
    bundle = settings / "help.tar.gz"
    assert "much" in cli("doctor", "--bundle", bundle, status=1).err
    assert "SPACESFS_MEMORY" in contents(bundle)["config.txt"]


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (None, ""),
        ('PRUNEFS="NFS fuse.spacesfs tmpfs"\n', ""),
        ('PRUNEFS="NFS fuse.sshfs"\n', "add fuse.spacesfs to PRUNEFS"),
        ("# nothing\n", "add fuse.spacesfs to PRUNEFS"),
    ],
)
def test_updatedb_shall_leave_spaces_alone(
    content: str | None, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "updatedb.conf"
    monkeypatch.setattr(checks, "_UPDATEDB_CONF", file)
    if content is not None:
        file.write_text(content)
    found = checks._updatedb()  # noqa: SLF001 - the whole of doctor needs a server
    assert found.fix.startswith(fix)
    assert bool(found.fix) == bool(fix)
