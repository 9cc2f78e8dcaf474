"""docs/recipes.md: its commands run as they stand there, one after the other, beside one mount."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import Mount, daemons_of, detach, is_mounted, run, spacesfs_command

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

TEXT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
RECIPES = {
    section.partition("\n")[0]: re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    for section in TEXT.split("\n## ")[1:]
}


class Host:
    """A home directory with what the recipes begin with, and the mount that they call ~/space."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.home = mount.home
        self.bucket = mount.source

    def environment(self) -> Mapping[str, str]:
        """Return the environment of somebody who has set up where his Space is; a second mount needs its own state."""
        account = self.mount.account
        own = {"SPACESFS_ENDPOINT": account.endpoint, "SPACESFS_STATE_DIR": str(self.home / "other-state")}
        if account.ca_bundle:
            own |= {"SPACESFS_CA_BUNDLE": str(account.ca_bundle), "CURL_CA_BUNDLE": str(account.ca_bundle)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return self.mount.environment | own | {"PATH": path, "GIT_CONFIG_GLOBAL": "/dev/null"}

    def follow(self, title: str) -> list[str]:
        """Run the blocks of one recipe; return what each printed."""
        texts = [block.replace("~/space", str(self.mount.path)) for block in RECIPES[title]]
        scripts = [re.sub(r"\bmy-bucket\b", self.bucket, text) for text in texts]
        assert scripts, title
        command = ("bash", "-euo", "pipefail", "-c")
        return [run(*command, script, cwd=self.home, env=self.environment()) for script in scripts]


@pytest.fixture
def host(mount: Mount) -> Host:
    """The host of all recipes here."""
    return Host(mount)


def test_every_recipe_is_followed_here() -> None:
    source = Path(__file__).read_text()
    assert [title for title in RECIPES if f'follow("{title}")' not in source] == []


def test_backup(host: Host, s3: S3Client) -> None:
    documents = host.home / "documents"
    documents.mkdir()
    (documents / "a.txt").write_text("kept")
    host.follow("Backup with rsync")
    assert _body(s3, host.bucket, "backup/documents/a.txt") == b"kept"


@pytest.fixture
def website(host: Host) -> Iterator[Path]:
    """The folder of a site; what is mounted beside it goes with the test."""
    site, www = host.home / "site", host.home / "www"
    site.mkdir()
    (site / "index.html").write_text("<h1>Hi</h1>")
    yield www
    if is_mounted(www):
        run(*spacesfs_command("umount", www), env=host.environment())
    assert daemons_of(www) == []
    detach(www)


def test_web_server(host: Host, website: Path) -> None:
    *_, facts = host.follow("Web server")
    assert run("cat", website / "index.html") == "<h1>Hi</h1>"
    assert "public-read" in facts
    assert f"{host.bucket}/www/index.html" in facts or f"{host.bucket}." in facts


def test_media_library(host: Host) -> None:
    (host.mount.path / "films").mkdir()
    (host.mount.path / "films" / "trailer.mkv").write_bytes(os.urandom(3_000_000))
    host.follow("Media library")
    assert host.mount.status()["limit_down"] == 20 * 2**20


def test_ci_cache(host: Host, s3: S3Client) -> None:
    (host.home / "requirements.txt").write_text("trio\n")
    host.follow("CI cache")
    stored = _listed(s3, host.bucket, "ci/deps-")
    run("rm", "-r", "deps", "deps.tar.gz", cwd=host.home)
    host.follow("CI cache")
    assert (host.home / "deps").is_dir()
    assert len(stored) == 1
    assert _listed(s3, host.bucket, "ci/deps-") == stored  # the second time it was fetched, not made anew


def test_git_and_two_hosts(host: Host) -> None:
    project = host.home / "project"
    run("git", "init", "-q", "-b", "main", project)
    author = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    run("git", *author, "-C", project, "commit", "-q", "--allow-empty", "-m", "begun")
    host.follow("git")
    assert "refs/heads/main" in run("git", "ls-remote", host.mount.path / "project.git")
    host.follow("Two hosts")


def test_sharing(host: Host, s3: S3Client) -> None:
    (host.mount.path / "report.pdf").write_text("a report")
    (host.home / "photo.jpg").write_bytes(b"a photo")
    [printed] = host.follow("Sharing a file")
    assert run("curl", "-fsS", printed.splitlines()[0], env=host.environment()) == "a report"
    assert _body(s3, host.bucket, "inbox/photo.jpg") == b"a photo"


def _body(s3: S3Client, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def _listed(s3: S3Client, bucket: str, prefix: str) -> list[tuple[str, object]]:
    found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    return [(entry["Key"], entry["LastModified"]) for entry in found]
