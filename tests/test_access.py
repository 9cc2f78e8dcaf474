"""What a mount finds out before it begins: its key and the place of its bucket, or one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spacesfs import access
from spacesfs.access import find_key, first_key, key_at_hand, locate
from spacesfs.client.credentials import Awaited, Credentials
from spacesfs.client.endpoint import resolve_endpoint
from spacesfs.config import MountConfig
from spacesfs.errors import MountError
from spacesfs.logs import scrub
from tests.client.scripted import Answer, scripted_server

KEY = Credentials("AKSCRIPTED", "never-to-be-seen-in-a-message")


def config(folder: Path, **values: Any) -> MountConfig:
    return MountConfig(
        bucket="my-bucket", mountpoint=folder / "mnt", cache_dir=folder / "cache", state_dir=folder / "state", **values
    )


async def test_a_bucket_that_is_found(tmp_path: Path) -> None:
    async with scripted_server(Answer(403), Answer(200)) as here, scripted_server(Answer(404)) as elsewhere:
        endpoints = {"fra1": resolve_endpoint("fra1", here.url), "nyc3": resolve_endpoint("nyc3", elsewhere.url)}
        located = await locate(config(tmp_path), KEY, endpoints)
    assert located.is_located
    assert located.address == endpoints["fra1"]
    assert (tmp_path / "state" / "regions.json").read_text() == '{"my-bucket":"fra1"}'
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_a_bucket_that_is_nowhere(tmp_path: Path) -> None:
    async with scripted_server(Answer(404)) as server:
        with pytest.raises(MountError) as failure:
            await locate(config(tmp_path), KEY, {"fra1": resolve_endpoint("fra1", server.url)})
    assert str(failure.value) == (
        "no region of Spaces has a bucket my-bucket; check the name, or say where it is with --region or --endpoint"
    )


async def test_a_name_that_no_bucket_has(tmp_path: Path) -> None:
    named = config(tmp_path).model_copy(update={"bucket": "a..b"})
    with pytest.raises(MountError) as failure:
        await locate(named, KEY, {"fra1": resolve_endpoint("fra1", "http://127.0.0.1:9")})
    assert str(failure.value) == "'a..b' is not a bucket name: 3 to 63 lower-case letters, digits and dashes"


@pytest.mark.parametrize("place", [{"region": "fra1"}, {"endpoint": "https://s3.example.com"}], ids=str)
async def test_who_says_the_place_is_believed(tmp_path: Path, place: dict[str, str]) -> None:
    given = config(tmp_path, **place)
    assert await locate(given, KEY, {}) is given


async def test_the_key_stays_out_of_logs_and_is_read_anew(tmp_path: Path) -> None:
    place = tmp_path / "key"
    place.write_text("OLD\nsecret-before-rotation\n")
    given = config(tmp_path, region="fra1", credential_command=f"cat {place}")
    assert (await first_key(given)).access_key_id == "OLD"
    place.write_text("NEW\nsecret-after-rotation\n")
    assert await find_key(given) == Credentials("NEW", "secret-after-rotation")
    assert scrub("secret-before-rotation secret-after-rotation") == "[hidden] [hidden]"


async def test_no_key(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="credential command false ended with status 1"):
        await first_key(config(tmp_path, region="fra1", credential_command="false"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", "credential command false ended with status 1; run it by hand to see why"),
        ("sleep 2", "the credential command has taken more than 0.1 s"),
    ],
)
async def test_who_goes_on_needs_no_key_at_once(
    tmp_path: Path, command: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "_KEY_SECONDS", 5.0 if command == "false" else 0.1)
    given = config(tmp_path, region="fra1", credential_command=command)
    assert await key_at_hand(given) == Awaited(reason)
    assert [record.getMessage() for record in caplog.records] == [f"{reason}; the mount goes on with what is here"]
    caplog.clear()  # expected


async def test_only_a_command_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MountError, match="no access key found"):
        await key_at_hand(config(tmp_path, region="fra1"))


async def test_without_a_key_the_bucket_is_where_it_was(tmp_path: Path) -> None:
    endpoints = {
        "fra1": resolve_endpoint("fra1", "http://127.0.0.1:9"),
        "nyc3": resolve_endpoint("nyc3", "http://[::1]"),
    }
    awaited, given = Awaited("the vault is away"), config(tmp_path)
    with pytest.raises(MountError, match="without a key it can't be told in which region bucket my-bucket is"):
        await locate(given, awaited, endpoints)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "regions.json").write_text('{"my-bucket":"fra1"}')
    assert (await locate(given, awaited, endpoints)).address == endpoints["fra1"]
