"""docs/client.md: its examples run, and its table of libcloud's methods is complete and names what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from libcloud.storage.drivers.digitalocean_spaces import DigitalOceanSpacesStorageDriver
from types_boto3_s3 import S3Client

from spacesfs.client import cdn, cdn_urls
from spacesfs.client.client import Bucket, SpacesClient
from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import resolve_endpoint
from tests.client.cdn_api import TOKEN, cdn_api
from tests.conftest import remove_bucket
from tests.servers.rgw import RadosGateway

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
PROGRAM, *SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| .* ?\|$", TEXT.partition("### Coming from")[2], re.MULTILINE)[2:]


@pytest.fixture
def bucket_name(s3: S3Client) -> Any:
    """The bucket of the examples."""
    s3.create_bucket(Bucket="my-bucket")
    yield "my-bucket"
    remove_bucket(s3, "my-bucket")


@pytest.mark.usefixtures("bucket_name")
def test_the_program(rgw: RadosGateway, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SPACES_ACCESS_KEY_ID": rgw.access_key,
        "SPACES_SECRET_ACCESS_KEY": rgw.secret_key,
        "SPACES_ENDPOINT_URL": rgw.endpoint,
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("5 Hello\n", "")


@pytest.mark.usefixtures("bucket_name")
async def test_the_examples_in_it(
    rgw: RadosGateway, client: SpacesClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(SNIPPETS) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "os": os,
        "Path": Path,
        "client": client,
        "bucket": client.bucket("my-bucket"),
        "endpoint": resolve_endpoint(None, rgw.endpoint),
        "key": Credentials(rgw.access_key, rgw.secret_key),
    }
    async with cdn_api() as api:
        monkeypatch.setenv("DIGITALOCEAN_API_URL", api.url)
        monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", TOKEN)
        for snippet in SNIPPETS:
            source = f"async def example():\n{textwrap.indent(snippet, '    ')}    names.update(locals())\n"
            scope: dict[str, Any] = {}
            exec(compile(source, "docs/client.md", "exec"), names | {"names": names}, scope)  # noqa: S102 - our own
            await scope["example"]()
        assert api.purged == ["index.html", "css/*"]
    assert names["link"].startswith(rgw.endpoint)


def test_the_table_has_every_method_of_libcloud() -> None:
    theirs = {
        name
        for name in dir(DigitalOceanSpacesStorageDriver)
        if not name.startswith("_") and callable(getattr(DigitalOceanSpacesStorageDriver, name))
    }
    assert {name for left, _ in ROWS for name in re.findall(r"`(\w+)`", left)} == theirs - {"connectionCls"}


def test_every_call_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", TEXT.partition("### All calls")[2].partition("###")[0]))
    calls = {name for owner in (Bucket, SpacesClient, cdn.CdnClient) for name in dir(owner) if not name.startswith("_")}
    assert calls == named - {"SpacesClient", "Bucket", "CdnClient", "through_cdn"}


def test_the_table_names_what_exists() -> None:
    owners = {"SpacesClient": SpacesClient, "Bucket": Bucket, "CdnClient": cdn.CdnClient}
    for _, right in ROWS:
        owner, _, method = right.strip("`").partition(".")
        if method:
            assert callable(getattr(owners[owner], method)), right
        else:
            assert owner in owners or callable(getattr(cdn_urls, owner)), right
