"""One bucket, four programs: libcloud's driver, boto3, rclone and our client, each reading what the others wrote."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio
from libcloud.storage.base import Container
from libcloud.storage.drivers import digitalocean_spaces
from types_boto3_s3 import S3Client

from spacesfs.client.buffers import PIECE_BYTES
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.client.models import ObjectProperties
from tests.servers.rgw import RadosGateway

SIZES = {"small": 1000, "empty": 0, "large": 2 * PIECE_BYTES + 11}
KEYS = ("plain.txt", "dir/a b+c é.txt", "dir/deep/50%.txt")
MTIME_NS = 1_700_000_000_123_456_789
METADATA = {"note": "as written", "mtime": "1700000000.123456789"}


class Program(Protocol):
    """A program that stores and reads objects of one bucket."""

    def write(self, key: str, body: bytes) -> None:
        """Store an object of type text/x-own with our metadata, readable for everyone."""

    def read(self, key: str) -> bytes:
        """Return an object's bytes."""

    def facts(self, key: str) -> tuple[int, str | None, dict[str, str]]:
        """Return an object's size, type and metadata."""

    def names(self) -> list[str]:
        """Return all keys, in order."""


@dataclass
class Ours:
    """Our client."""

    endpoint: str
    key: Credentials
    bucket: str

    def _run(self, work: Callable[[Bucket], Any]) -> Any:
        async def main() -> Any:
            async with SpacesClient(resolve_endpoint(None, self.endpoint), self.key) as client:
                return await work(client.bucket(self.bucket))

        return trio.run(main)

    def write(self, key: str, body: bytes) -> None:
        async def chunks() -> Any:
            yield body

        properties = ObjectProperties(content_type="text/x-own", metadata=METADATA, acl="public-read")
        self._run(lambda bucket: bucket.upload_stream(key, chunks(), properties))

    def read(self, key: str) -> bytes:
        body: bytes = self._run(lambda bucket: bucket.get(key))[1]
        return body

    def facts(self, key: str) -> tuple[int, str | None, dict[str, str]]:
        info = self._run(lambda bucket: bucket.head(key))
        return info.size, info.properties.content_type, dict(info.properties.metadata)

    def names(self) -> list[str]:
        async def listed(bucket: Bucket) -> list[str]:
            return [entry.key async for page in bucket.list("") for entry in page.objects]

        return list(self._run(listed))


@dataclass
class Libcloud:
    """Apache Libcloud's driver for Spaces, in the version of signatures in which all of it works."""

    container: Container

    def write(self, key: str, body: bytes) -> None:
        extra = {"content_type": "text/x-own", "meta_data": METADATA, "acl": "public-read"}
        self.container.upload_object_via_stream(io.BytesIO(body), key, extra=extra)

    def read(self, key: str) -> bytes:
        return b"".join(self.container.get_object(key).as_stream())

    def facts(self, key: str) -> tuple[int, str | None, dict[str, str]]:
        found = self.container.get_object(key)
        return found.size, found.extra["content_type"], found.meta_data

    def names(self) -> list[str]:
        return [found.name for found in self.container.list_objects()]


@dataclass
class Boto:
    """Amazon's own client."""

    s3: S3Client
    bucket: str

    def write(self, key: str, body: bytes) -> None:
        extra = {"ContentType": "text/x-own", "Metadata": METADATA, "ACL": "public-read"}
        self.s3.upload_fileobj(io.BytesIO(body), self.bucket, key, ExtraArgs=extra)

    def read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def facts(self, key: str) -> tuple[int, str | None, dict[str, str]]:
        head = self.s3.head_object(Bucket=self.bucket, Key=key)
        return head["ContentLength"], head["ContentType"], head["Metadata"]

    def names(self) -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])]


@dataclass
class Rclone:
    """rclone, whose own metadata is the time of the file."""

    remote: str
    key: Credentials
    work: Path

    def _run(self, *words: str) -> bytes:
        environment = {
            "AWS_ACCESS_KEY_ID": self.key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.key.secret_access_key,
            "HOME": "/nonexistent",
        }
        command = [str(Path(sys.executable).with_name("rclone")), *words, "--config=/dev/null", "--metadata"]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout

    def write(self, key: str, body: bytes) -> None:
        path = self.work / "source"
        path.write_bytes(body)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
        settings = [f"--metadata-set=note={METADATA['note']}", "--metadata-set=content-type=text/x-own"]
        self._run(
            "copyto", str(path), f"{self.remote}/{key}", "--s3-acl=public-read", "--s3-no-check-bucket", *settings
        )

    def read(self, key: str) -> bytes:
        return self._run("cat", f"{self.remote}/{key}")

    def facts(self, key: str) -> tuple[int, str | None, dict[str, str]]:
        [found] = json.loads(self._run("lsjson", "--stat", f"{self.remote}/{key}").join([b"[", b"]"]))
        metadata = {name: value for name, value in found["Metadata"].items() if name in METADATA}
        moment = datetime.fromisoformat(metadata["mtime"][:26] + "+00:00")
        assert moment.replace(microsecond=0) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        return found["Size"], found["MimeType"], metadata | {"mtime": METADATA["mtime"]}

    def names(self) -> list[str]:
        return sorted(self._run("lsf", "-R", "--files-only", self.remote).decode().splitlines())


PROGRAMS = ("ours", "libcloud", "boto3", "rclone")


@pytest.fixture
def programs(
    rgw: RadosGateway, s3: S3Client, bucket_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Program]:
    """All programs on one bucket."""
    key = Credentials(rgw.access_key, rgw.secret_key)
    host, _, port = rgw.endpoint.removeprefix("http://").partition(":")
    monkeypatch.setitem(digitalocean_spaces.DO_SPACES_HOSTS_BY_REGION, "nyc3", host)  # it takes no other host
    driver = digitalocean_spaces.DigitalOceanSpacesStorageDriver(  # type: ignore[no-untyped-call]
        rgw.access_key, rgw.secret_key, secure=False, port=int(port), region="nyc3", signature_version="4"
    )
    remote = f":s3,provider=Ceph,env_auth=true,region=us-east-1,endpoint='{rgw.endpoint}':{bucket_name}"
    return {
        "ours": Ours(rgw.endpoint, key, bucket_name),
        "libcloud": Libcloud(driver.get_container(bucket_name)),  # type: ignore[no-untyped-call]
        "boto3": Boto(s3, bucket_name),
        "rclone": Rclone(remote, key, tmp_path),
    }


@pytest.mark.parametrize("writer", PROGRAMS)
@pytest.mark.parametrize("size", SIZES)
def test_everyone_reads_what_one_wrote(programs: dict[str, Program], writer: str, size: str) -> None:
    body = bytes(index % 251 for index in range(SIZES[size]))
    programs[writer].write(KEYS[1], body)
    for name, reader in programs.items():
        got = reader.read(KEYS[1])
        assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest(), name
        length, content_type, metadata = reader.facts(KEYS[1])
        assert (length, content_type) == (len(body), "text/x-own"), name
        assert metadata.items() >= METADATA.items(), name  # rclone adds what else it knows of a file


@pytest.mark.parametrize("writer", PROGRAMS)
def test_everyone_lists_what_one_wrote(programs: dict[str, Program], writer: str) -> None:
    for key in KEYS:
        programs[writer].write(key, b"x")
    assert {name: reader.names() for name, reader in programs.items()} == dict.fromkeys(PROGRAMS, sorted(KEYS))


@pytest.mark.parametrize("writer", PROGRAMS)
async def test_acls_mean_the_same(programs: dict[str, Program], writer: str, bucket: Bucket, s3: S3Client) -> None:
    await trio.to_thread.run_sync(programs[writer].write, "k", b"x")
    assert await bucket.get_acl("k") == "public-read"
    assert len(s3.get_object_acl(Bucket=bucket.name, Key="k")["Grants"]) == 2
    await bucket.set_acl("k", "private")
    assert len(s3.get_object_acl(Bucket=bucket.name, Key="k")["Grants"]) == 1
