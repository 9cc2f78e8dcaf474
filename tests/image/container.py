"""The image, built step by step from docker/Dockerfile: it mounts, is healthy, drains when it is stopped, is taken up.

``make image-test``; no part of ``make test``: it takes minutes, root, and the packages of a Debian.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.image.conftest import ContainerMaker
from tests.image.debian import Container, copy
from tests.image.recipe import Stage, build, prepare

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from tests.servers.rgw import RadosGateway

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
DRAIN_SECONDS = 120.0


@pytest.fixture(scope="session")
def image(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("image")
    copy(debian, folder / "base")
    prepare(folder / "base")
    return build(ROOT / "docker" / "Dockerfile", ROOT, folder / "base", folder)


@dataclass(frozen=True, slots=True)
class Host:
    """Runs containers of one image, one after the other with the same volumes, over one bucket.

    ``environment`` is what keys.env holds; the server is this host's, so plain http will do.
    """

    image: Stage
    root: Path
    make: ContainerMaker
    bucket: str
    s3: S3Client
    environment: dict[str, str]

    def start(self, user: str = "") -> Container:
        """Run the image's command as its documents say, and wait until its health check is content."""
        words = ("mount", "--foreground", "--grace", "1h", self.bucket, "/mnt/space")
        container = self.make(self.root)
        given = self.image.environment | self.environment
        container.start(*become(user), *self.image.entrypoint, *words, environment=given)
        deadline = time.monotonic() + READY_SECONDS
        while container.execute(*become(user), *self.image.healthcheck).returncode != 0:
            assert time.monotonic() < deadline, container.tail()
            time.sleep(0.5)
        return container

    def body(self, key: str) -> bytes:
        """Return what the Space holds."""
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()


def become(user: str) -> list[str]:
    """Return what ``--user`` comes to."""
    who = (f"--reuid={user}", f"--regid={user}", "--init-groups")
    return ["setpriv", *who, "env", f"HOME=/home/{user}"] if user else []


@pytest.fixture
def own(image: Stage, tmp_path: Path) -> Path:
    """The image's file system, for one container."""
    copy(image.root, tmp_path / "container")
    return tmp_path / "container"


@pytest.fixture
def host(image: Stage, own: Path, container: ContainerMaker, rgw: RadosGateway, request: pytest.FixtureRequest) -> Host:
    environment = {
        "SPACES_ACCESS_KEY_ID": rgw.access_key,
        "SPACES_SECRET_ACCESS_KEY": rgw.secret_key,
        "SPACESFS_ENDPOINT": rgw.endpoint,
    }
    return Host(
        image, own, container, request.getfixturevalue("bucket_name"), request.getfixturevalue("s3"), environment
    )


@pytest.mark.parametrize("user", ["", "spacesfs"], ids=["root", "user"])
def test_it_mounts_and_drains_when_it_is_stopped(host: Host, user: str) -> None:
    running = host.start(user)
    done = running.execute(*become(user), "sh", "-ec", "echo content > /mnt/space/f && cat /mnt/space/f")
    assert done.stdout == "content\n", done.stderr + running.tail()
    assert host.s3.list_objects_v2(Bucket=host.bucket).get("KeyCount") == 0, "the grace is an hour"
    running.signal(signal.SIGTERM)
    assert running.wait(DRAIN_SECONDS) == 0, running.tail()
    assert host.body("f") == b"content\n"


def test_what_a_killed_one_left_in_its_volume_is_sent_by_the_next(host: Host) -> None:
    first = host.start()
    assert first.execute("sh", "-ec", "echo content > /mnt/space/f").returncode == 0
    first.stop()
    second = host.start()
    assert second.execute("cat", "/mnt/space/f").stdout == "content\n"
    second.signal(signal.SIGTERM)
    assert second.wait(DRAIN_SECONDS) == 0, second.tail()
    assert host.body("f") == b"content\n"


def test_what_the_image_has_and_has_not(image: Stage, own: Path, container: ContainerMaker) -> None:
    step = container(own).step
    assert step("spacesfs version --json", environment=image.environment)
    assert "mount" in step("spacesfs --help", environment=image.environment)
    assert step("command -v gcc || true") == "", "what compiles stays in the first stage"
    assert step("stat -c '%U %a' /var/lib/spacesfs /var/cache/spacesfs").split() == ["spacesfs", "700"] * 2
