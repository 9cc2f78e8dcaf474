"""``spacesfs buckets``, ``uploads``, ``acl``, ``share``, ``cdn`` and completion; the CDN on a scripted API."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
import trio
from types_boto3_s3 import S3Client

from tests.cli.conftest import Cli
from tests.cli.running import spacesfs
from tests.client.cdn_api import TOKEN, CdnApi, cdn_api
from tests.servers.rgw import RadosGateway


def test_buckets(cli: Cli, s3: S3Client) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    cli("buckets", "create", name)
    try:
        assert name in cli("buckets", "list").out
        [listed] = [bucket for bucket in cli("buckets", "list", "--json").json if bucket["name"] == name]
        assert listed["region"] == "us-east-1"
        s3.put_object(Bucket=name, Key="k", Body=b"")
        assert "BucketNotEmpty" in cli("buckets", "delete", name, status=1).complaint
        s3.delete_object(Bucket=name, Key="k")
    finally:
        cli("buckets", "delete", name)
    assert name not in cli("buckets", "list").out
    assert "NoSuchBucket" in cli("buckets", "delete", name, status=1).complaint


def test_a_bucket_needs_a_name_and_a_place(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is not a bucket name" in cli("buckets", "create", "No_Bucket!", status=2).complaint
    monkeypatch.delenv("SPACESFS_ENDPOINT")
    assert "--region or --endpoint" in cli("buckets", "create", "some-bucket", status=2).complaint


def test_somebody_elses_bucket(cli: Cli, bucket_name: str, stranger: str) -> None:
    assert "BucketAlreadyExists" in cli("buckets", "create", bucket_name, status=1).complaint
    assert bucket_name not in cli("buckets", "list").out


def test_uploads(cli: Cli, s3: S3Client, bucket_name: str) -> None:
    for key in ("a/1", "a/2", "b/\u202e"):
        s3.create_multipart_upload(Bucket=bucket_name, Key=key)
    assert [upload["key"] for upload in cli("uploads", "list", f"{bucket_name}:a/", "--json").json] == ["a/1", "a/2"]
    shown = cli("uploads", "list", bucket_name).out
    assert len(shown.splitlines()) == 3
    assert "\u202e" not in shown
    assert cli("uploads", "abort", bucket_name).out == "0 uploads aborted\n"
    assert cli("uploads", "list", bucket_name, "--older-than", "1h").out == ""
    assert cli("uploads", "abort", f"{bucket_name}:a/", "--older-than", "0s").out == "a/1\na/2\n2 uploads aborted\n"
    assert len(cli("uploads", "list", bucket_name).out.splitlines()) == 1
    time.sleep(0.01)  # until it is as old as that
    assert len(cli("uploads", "list", bucket_name, "--older-than", "0.01s").out.splitlines()) == 1
    gone = cli("uploads", "abort", bucket_name, "--older-than", "0s", "--json")
    assert [upload["key"] for upload in gone.json] == ["b/\u202e"]
    assert "\u202e" not in gone.out
    for command in ("abort", "list"):
        assert "is not a duration" in cli("uploads", command, bucket_name, "--older-than", "long", status=2).complaint


def test_acl(cli: Cli, s3: S3Client, bucket_name: str, rgw: RadosGateway) -> None:
    s3.put_object(Bucket=bucket_name, Key="dir/k", Body=b"content")
    place = f"{bucket_name}:dir/k"
    url = f"{rgw.endpoint}/{bucket_name}/dir/k"
    assert cli("acl", place).out == "private\n"
    assert httpx.get(url, trust_env=False).status_code == 403
    assert cli("acl", place, "public-read").out == "public-read\n"
    assert httpx.get(url, trust_env=False).content == b"content"
    assert cli("acl", place, "--json").json == {"bucket": bucket_name, "key": "dir/k", "acl": "public-read"}
    assert cli("acl", place, "private").out == "private\n"
    assert cli("acl", bucket_name, "public-read").out == "public-read\n"
    assert "'open' is not one of" in cli("acl", place, "open", status=2).complaint
    assert "NoSuchKey" in cli("acl", f"{bucket_name}:missing", status=1).complaint


def test_share(cli: Cli, s3: S3Client, bucket_name: str) -> None:
    s3.put_object(Bucket=bucket_name, Key="dir/a +é", Body=b"content")
    url = cli("share", f"{bucket_name}:dir/a +é", "--expires", "60").out.splitlines()[-1]
    assert "X-Amz-Expires=60" in url
    assert httpx.get(url, trust_env=False).content == b"content"
    shared = cli("share", "--put", "--json", f"{bucket_name}:new").json
    assert (shared["method"], shared["expires_seconds"]) == ("PUT", 3600)
    assert httpx.put(shared["url"], content=b"x", trust_env=False).status_code == 200
    assert s3.get_object(Bucket=bucket_name, Key="new")["Body"].read() == b"x"
    assert "is a folder" in cli("share", f"{bucket_name}:dir/", status=1).complaint
    assert "604800" in cli("share", f"{bucket_name}:k", "--expires", "604801", status=2).complaint
    assert "no CDN" in cli("share", "--cdn", f"{bucket_name}:k", status=1).complaint


def test_share_through_the_cdn(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACESFS_ENDPOINT")
    url = cli("share", "--cdn", "--region=nyc3", "my-bucket:a/b").out
    assert url.startswith("https://my-bucket.nyc3.cdn.digitaloceanspaces.com/a/b?X-Amz-Algorithm=")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[CdnApi]:
    """The API in a thread, and an environment that leads to it and to a region of Spaces."""
    started: list[CdnApi] = []
    is_up = threading.Event()
    stop: list[trio.CancelScope] = []
    token: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with cdn_api() as server:
                started.append(server)
                stop.append(scope)
                token.append(trio.lowlevel.current_trio_token())
                is_up.set()
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert is_up.wait(30)
    monkeypatch.setenv("DIGITALOCEAN_API_URL", started[0].url)
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", TOKEN)
    yield started[0]
    token[0].run_sync_soon(stop[0].cancel)
    thread.join()


@pytest.fixture
def region(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A region of Spaces instead of our own server."""
    monkeypatch.delenv("SPACESFS_ENDPOINT")
    monkeypatch.setenv("SPACESFS_REGION", "nyc3")


@pytest.mark.usefixtures("region")
def test_cdn(cli: Cli, api: CdnApi) -> None:
    assert cli("cdn", "status", "my-bucket").out == "no CDN\n"
    assert cli("cdn", "status", "my-bucket", "--json").json is None
    for command in (("disable", "my-bucket"), ("purge", "my-bucket:a")):
        assert "has no CDN" in cli("cdn", *command, status=1).complaint
    made = cli("cdn", "enable", "my-bucket", "--ttl", "600", "--json").json
    assert (made["ttl"], made["origin"]) == (600, "my-bucket.nyc3.digitaloceanspaces.com")


@pytest.mark.usefixtures("region")
def test_cdn_leaves_what_is_not_given(cli: Cli, api: CdnApi) -> None:
    cli("cdn", "enable", "my-bucket", "--domain=static.example.org", "--certificate=cert")
    changed = cli("cdn", "enable", "my-bucket", "--ttl=86400", "--json").json
    assert (changed["ttl"], changed["custom_domain"], changed["certificate_id"]) == (
        86_400,
        "static.example.org",
        "cert",
    )
    assert cli("cdn", "enable", "my-bucket", "--domain=", "--json").json["custom_domain"] == ""


@pytest.mark.usefixtures("region")
def test_cdn_purge_and_disable(cli: Cli, api: CdnApi) -> None:
    api.add("my-bucket.nyc3.digitaloceanspaces.com")
    assert "ttl: 3600" in cli("cdn", "status", "my-bucket").out
    cli("cdn", "purge", "my-bucket:css/a.css", "my-bucket:img/*", "my-bucket:js/")
    assert api.purged == ["css/a.css", "img/*", "js/*"]
    cli("cdn", "disable", "my-bucket:")
    assert api.endpoints == {}


@pytest.mark.usefixtures("region")
def test_cdn_purges_a_whole_bucket(cli: Cli, api: CdnApi) -> None:
    api.add("my-bucket.nyc3.digitaloceanspaces.com")
    cli("cdn", "purge", "my-bucket")
    assert api.purged == ["*"]
    assert "one bucket" in cli("cdn", "purge", "my-bucket", "other-bucket", status=2).complaint


@pytest.mark.usefixtures("region")
def test_cdn_without_a_token(cli: Cli, api: CdnApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", "dop_v1_wrong-token")
    complaint = cli("cdn", "status", "my-bucket", status=1).complaint
    assert "Unable to authenticate you" in complaint
    assert "wrong-token" not in complaint
    monkeypatch.delenv("DIGITALOCEAN_ACCESS_TOKEN")
    assert "DIGITALOCEAN_ACCESS_TOKEN" in cli("cdn", "status", "my-bucket", status=1).complaint


@pytest.mark.usefixtures("region")
def test_cdn_url(cli: Cli) -> None:
    host = "https://my-bucket.nyc3.cdn.digitaloceanspaces.com"
    assert cli("cdn", "url", "my-bucket").out == f"{host}/\n"
    assert cli("cdn", "url", "my-bucket:a b").out == f"{host}/a%20b\n"


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --no-files")]
)
def test_completion(shell: str, words: str) -> None:
    assert words in spacesfs(_SPACESFS_COMPLETE=f"{shell}_source").stdout
    offered = spacesfs(_SPACESFS_COMPLETE="bash_complete", COMP_WORDS="spacesfs d", COMP_CWORD="1").stdout.split()
    assert {"plain,demo", "plain,du", "plain,doctor", "plain,drop-cache"} == set(offered)


@pytest.mark.parametrize("words", ["put ", "get ", "cat ", "umount ", "mount my-bucket ", "refresh ", "uploads list "])
def test_completion_of_paths(words: str) -> None:
    line = f"spacesfs {words}some/pa"
    count = str(len(line.split()) - 1)
    offered = spacesfs(_SPACESFS_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=count).stdout
    assert offered == "file,some/pa\n"
