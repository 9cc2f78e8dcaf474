"""Finding a bucket among several servers: some have it, some don't, some say nothing."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from spacesfs.client.credentials import Credentials
from spacesfs.client.endpoint import Endpoint, resolve_endpoint, spaces_endpoints
from spacesfs.client.errors import InvalidRequest
from spacesfs.client.regions import MAX_REMEMBERED, RegionFinder, RegionMemory, RegionUnknown
from spacesfs.client.transport import ClientOptions
from tests.client.scripted import Answer, Reset, ScriptedServer, Silence, Step, scripted_server
from tests.servers.edge import Edge
from tests.servers.rgw import RadosGateway

KEY = Credentials("AKSCRIPTED", "never-to-be-seen-in-a-message")
ABSENT, CLOSED, OPEN = Answer(404), Answer(403), Answer(200)
PAGE = Answer(302, headers={"location": "https://www.example.com/"})
OPTIONS = ClientOptions(timeout_seconds=1, deadline_seconds=1, patience_seconds=1, max_connections=1, max_attempts=1)
MEMORY = "regions.json"


class World:
    """Some regions, and a memory of where buckets were."""

    def __init__(self, servers: dict[str, ScriptedServer], folder: Path) -> None:
        self.servers = servers
        self.memory = RegionMemory(folder / MEMORY)
        self.endpoints = {region: resolve_endpoint(region, server.url) for region, server in servers.items()}

    async def find(self, bucket: str = "my-bucket", key: Credentials = KEY) -> str:
        return (await RegionFinder(self.endpoints, OPTIONS, self.memory).find(bucket, key)).region

    def asked(self) -> dict[str, int]:
        return {region: len(server.requests) for region, server in self.servers.items()}


@asynccontextmanager
async def world(folder: Path, **scripts: Step | tuple[Step, ...]) -> AsyncIterator[World]:
    """Run a server for each region; each answers by its script, whose last step is repeated."""
    async with AsyncExitStack() as stack:
        servers: dict[str, ScriptedServer] = {}
        for region, script in scripts.items():
            steps = script if isinstance(script, tuple) else (script,)
            servers[region] = await stack.enter_async_context(scripted_server(*steps))
        yield World(servers, folder)


def test_all_regions_of_spaces() -> None:
    endpoints = spaces_endpoints()
    assert len(endpoints) == 11
    assert endpoints["nyc3"] == Endpoint("https://nyc3.digitaloceanspaces.com", "nyc3", "virtual")


@pytest.mark.parametrize("here", [CLOSED, OPEN])
@pytest.mark.parametrize("elsewhere", [ABSENT, Silence(), Reset(), PAGE, Answer(500)])
async def test_the_region_whose_bucket_the_key_opens(tmp_path: Path, here: Step, elsewhere: Step) -> None:
    async with world(tmp_path, ams3=ABSENT, fra1=(here, OPEN), nyc3=elsewhere) as regions:
        assert await regions.find() == "fra1"
        assert regions.asked() == {"ams3": 1, "fra1": 2, "nyc3": 1}
        for server in regions.servers.values():
            assert {(request.method, request.target) for request in server.requests} == {("HEAD", "/my-bucket")}
            assert "authorization" not in server.requests[0].headers
        assert "Credential=AKSCRIPTED" in regions.servers["fra1"].requests[1].headers["authorization"]
        assert regions.memory.recall("my-bucket") == "fra1"


@pytest.mark.parametrize("signed", [CLOSED, Answer(500)])
async def test_one_that_is_closed_to_the_key_is_not_remembered(tmp_path: Path, signed: Step) -> None:
    async with world(tmp_path, ams3=ABSENT, fra1=(CLOSED, signed)) as regions:
        assert await regions.find() == "fra1"
        assert regions.memory.recall("my-bucket") is None


async def test_one_that_is_closed_to_the_key_is_not_believed_while_another_is_silent(tmp_path: Path) -> None:
    message = "fra1 has a bucket my-bucket, which this key does not open; no answer from nyc3"
    async with world(tmp_path, ams3=ABSENT, fra1=CLOSED, nyc3=Silence()) as regions:
        with pytest.raises(RegionUnknown) as failure:
            await regions.find()
    assert str(failure.value) == message


async def test_a_region_that_has_closed_is_forgotten(tmp_path: Path) -> None:
    """Somebody else has a bucket of that name by now; ours was made again elsewhere."""
    async with world(tmp_path, ams3=(ABSENT, OPEN), fra1=(CLOSED, OPEN, CLOSED)) as regions:
        assert [await regions.find() for _ in range(2)] == ["fra1", "ams3"]
        assert regions.memory.recall("my-bucket") == "ams3"


async def test_a_name_that_no_bucket_has_is_not_looked_for(tmp_path: Path) -> None:
    async with world(tmp_path, ams3=ABSENT, fra1=ABSENT) as regions:
        with pytest.raises(InvalidRequest, match=r"'a\.\.b' is not a bucket name"):
            await regions.find("a..b")
        assert regions.asked() == {"ams3": 0, "fra1": 0}


async def test_the_answer_is_remembered_and_checked(tmp_path: Path) -> None:
    async with world(tmp_path, ams3=(ABSENT, ABSENT, CLOSED, OPEN), fra1=(CLOSED, OPEN, OPEN, ABSENT)) as regions:
        assert [await regions.find() for _ in range(2)] == ["fra1", "fra1"]
        assert regions.asked() == {"ams3": 1, "fra1": 3}
        path = tmp_path / MEMORY
        assert json.loads(path.read_text()) == {"my-bucket": "fra1"}
        assert path.stat().st_mode & 0o777 == 0o600
        assert os.listdir(tmp_path) == [MEMORY]
        with pytest.raises(RegionUnknown):  # it left, and is nowhere yet
            await regions.find()
        assert await regions.find() == "ams3"  # made again, in another region
        assert json.loads(path.read_text()) == {"my-bucket": "ams3"}


async def test_a_region_that_does_not_answer_is_still_believed(tmp_path: Path) -> None:
    async with world(tmp_path, ams3=ABSENT, fra1=(CLOSED, OPEN, Reset())) as regions:
        assert [await regions.find() for _ in range(2)] == ["fra1", "fra1"]
        assert regions.asked() == {"ams3": 1, "fra1": 3}


async def test_of_several_the_key_decides(tmp_path: Path) -> None:
    async with world(tmp_path, ams3=CLOSED, fra1=(CLOSED, OPEN), nyc3=ABSENT) as regions:
        assert await regions.find() == "fra1"
        assert regions.asked() == {"ams3": 2, "fra1": 2, "nyc3": 1}
        assert "Credential=AKSCRIPTED" in regions.servers["fra1"].requests[1].headers["authorization"]


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ({"ams3": ABSENT, "fra1": ABSENT}, "no region of Spaces has a bucket my-bucket"),
        (
            {"ams3": ABSENT, "fra1": Reset(), "nyc3": PAGE},
            "no region that answers has a bucket my-bucket; no answer from fra1, nyc3",
        ),
        (
            {"ams3": CLOSED, "fra1": CLOSED, "nyc3": ABSENT},
            "several regions have a bucket my-bucket (ams3, fra1), and this key fits none of them",
        ),
        (
            {"ams3": OPEN, "fra1": OPEN},
            "several regions have a bucket my-bucket (ams3, fra1), and this key fits several of them",
        ),
        (
            {"ams3": Reset(), "fra1": Reset()},
            "no region of Spaces answers: HeadBucket 'my-bucket': the connection broke",
        ),
    ],
)
async def test_what_cannot_be_found_is_said_in_one_line(tmp_path: Path, scripts: dict[str, Step], message: str) -> None:
    async with world(tmp_path, **scripts) as regions:
        with pytest.raises(RegionUnknown) as failure:
            await regions.find()
    assert str(failure.value) == message
    assert not (tmp_path / MEMORY).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"my-bucket": 1}', b'{"my-bucket": "gone"}', b"\xff"])
async def test_a_broken_memory_is_no_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MEMORY).write_bytes(content)
    async with world(tmp_path, ams3=ABSENT, fra1=(CLOSED, OPEN)) as regions:
        assert await regions.find() == "fra1"
    assert RegionMemory(tmp_path / MEMORY).recall("my-bucket") == "fra1"


async def test_a_memory_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    async with world(tmp_path / "file" / "folder", ams3=ABSENT, fra1=(CLOSED, OPEN)) as regions:
        assert await regions.find() == "fra1"
    assert [record.levelname for record in caplog.records if "can't be noted" in record.getMessage()] == ["WARNING"]


def test_the_memory_does_not_grow_without_end(tmp_path: Path) -> None:
    memory = RegionMemory(tmp_path / "new" / MEMORY)
    full = {f"b{number}": "fra1" for number in range(MAX_REMEMBERED)}
    memory.remember("b0", "fra1")
    (tmp_path / "new" / MEMORY).write_text(json.dumps(full))
    memory.remember("b0", "nyc3")
    memory.remember("one-more", "nyc3")
    assert (memory.recall("b0"), memory.recall("one-more"), memory.recall("b1")) == ("nyc3", "nyc3", None)
    assert len(json.loads((tmp_path / "new" / MEMORY).read_text())) == MAX_REMEMBERED


async def test_on_real_servers(
    tmp_path: Path, rgw: RadosGateway, make_edge: Callable[..., Edge], bucket_name: str
) -> None:
    """A private bucket is found by anybody, and one that is missing by nobody; with a server that is down."""
    down = make_edge(fail_percent=100)
    async with world(tmp_path, ams3=ABSENT) as regions:
        regions.endpoints |= {
            "fra1": resolve_endpoint("fra1", rgw.endpoint),
            "nyc3": resolve_endpoint("nyc3", down.http_url),
        }
        ours = Credentials(rgw.access_key, rgw.secret_key)
        assert await regions.find(bucket_name, ours) == "fra1"
        with pytest.raises(RegionUnknown, match="no answer from nyc3"):
            await regions.find("no-such-bucket-anywhere", ours)
        regions.memory.forget(bucket_name)
        with pytest.raises(RegionUnknown, match="which this key does not open; no answer from nyc3"):
            await regions.find(bucket_name, Credentials(rgw.other_access_key, rgw.other_secret_key))
