"""What a word of the command line names, and how that place is reached."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from spacesfs.cli.places import STANDARD, Place, SpacePlace, bucket_place, parse_place, space_place
from spacesfs.cli.spaces import Spaces

ELSEWHERE = "https://fra1.digitaloceanspaces.com"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("b-1:", SpacePlace("b-1", "")),
        ("b-1:a/b c", SpacePlace("b-1", "a/b c")),
        ("b-1:a:b\n/", SpacePlace("b-1", "a:b\n/")),
        ("s3://b-1", SpacePlace("b-1", "")),
        ("s3://b-1/a:b", SpacePlace("b-1", "a:b")),
        ("-", STANDARD),
        ("./b-1:a", Path("b-1:a")),
        ("dir/b-1:a", Path("dir/b-1:a")),
        ("a:b", Path("a:b")),  # no bucket has such a short name
        ("/tmp/x", Path("/tmp/x")),  # noqa: S108 - only a name
    ],
)
def test_places(text: str, place: Place) -> None:
    assert parse_place(text) == place


def test_places_that_must_be_in_a_space() -> None:
    assert bucket_place("my-bucket") == SpacePlace("my-bucket", "")
    for text in ("a.txt", "./a", "-"):
        with pytest.raises(click.BadParameter, match="is not in a Space"):
            space_place(text)
    for text in (".", "./a"):
        with pytest.raises(click.BadParameter):
            bucket_place(text)


def test_names_below_a_place() -> None:
    assert str(SpacePlace("b-1", "").below("n")) == "b-1:n"
    assert str(SpacePlace("b-1", "dir").below("n")) == str(SpacePlace("b-1", "dir/").below("n")) == "b-1:dir/n"
    assert SpacePlace("b-1", "dir", ELSEWHERE, Path("/mnt")).below("n").endpoint == ELSEWHERE


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key and a region in the environment."""
    monkeypatch.setenv("SPACES_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("SPACES_SECRET_ACCESS_KEY", "some-secret")
    monkeypatch.setenv("SPACESFS_REGION", "nyc3")


@pytest.mark.usefixtures("keyed")
async def test_buckets_of_one_name_are_told_apart_by_their_mounts() -> None:
    async with Spaces({}) as spaces:
        there = await spaces.way(SpacePlace("my-bucket", "", ELSEWHERE))
        assert there.endpoint.url == ELSEWHERE
        assert await spaces.way(SpacePlace("my-bucket", "k")) is there
        other = await spaces.way(SpacePlace("my-bucket", "", "https://ams3.digitaloceanspaces.com"))
        assert other.endpoint.region == "ams3"
    async with Spaces({}) as spaces:
        assert (await spaces.way(SpacePlace("my-bucket", ""))).endpoint.region == "nyc3"
        assert (await spaces.way(SpacePlace("my-bucket", "", ELSEWHERE))).endpoint.region == "fra1"
    async with Spaces({"region": "sgp1"}) as spaces:
        assert (await spaces.way(SpacePlace("my-bucket", "", ELSEWHERE))).endpoint.region == "sgp1"
