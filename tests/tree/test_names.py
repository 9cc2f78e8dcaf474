"""From file names to key segments and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spacesfs.errors import NameNotUtf8, NameTooLong, Unsupported
from spacesfs.tree.names import (
    MAX_KEY_BYTES,
    MAX_SEGMENT_BYTES,
    check_free,
    check_key,
    is_beside,
    is_name,
    is_part,
    key_of,
    name_beside,
    name_inside,
    name_of,
    segment_in,
    split_key,
    text_of,
)

SEGMENTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda segment: segment not in (".", "..") and len(segment.encode()) <= MAX_SEGMENT_BYTES
)


@given(SEGMENTS)
def test_every_name_is_its_own_segment(name: str) -> None:
    assert text_of(name.encode()) == name
    assert is_name(name)


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_give_a_segment_or_one_of_two_errors(name: bytes) -> None:
    try:
        assert text_of(name).encode() == name
    except NameTooLong:
        assert len(name) > MAX_SEGMENT_BYTES
    except NameNotUtf8:
        assert name.decode(errors="replace").encode() != name


@pytest.mark.parametrize("segment", ["", ".", "..", "a\0b", "a" * 256, "é" * 128])
def test_segments_that_are_no_names(segment: str) -> None:
    assert not is_name(segment)


@pytest.mark.parametrize("segment", [" ", "...", ".a", "a\n", "a" * 255, "é" * 127, "-", "\\", "%2F", "\ufeff"])
def test_segments_that_are_names(segment: str) -> None:
    assert is_name(segment)


HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=30),
    st.lists(st.sampled_from(["~", "~key=", "~file=", "%", "%25", "%2E", "%00", "%2e", ".", "..", "\0", "a", "é"])).map(
        "".join
    ),
)
LONG = st.lists(
    st.one_of(
        st.sampled_from(["a" * 120, "a" * 237, "é" * 60, "\U0001f600" * 60, "%" * 80, "\0" * 80, "~more=", "~end="]),
        st.sampled_from(["~file=", "~key=", ".", "b", "é", "\U0001f600", "%", "\0"]),
    ),
    max_size=8,
).map("".join)
ANY = st.one_of(HOSTILE, LONG)


def walk(path: str) -> str | None:
    """Return the name, in a directory, of what a path below it is, taken step by step as the kernel does."""
    name = ""
    for step in path.split("/"):
        assert is_name(step)
        inside = name_inside(name, step) if is_part(name) else (None if name else step)
        if inside is None:
            return None
        name = inside
    return name


@given(ANY)
@example("~key=~key=")
@example("~key=a")
@example("~file=")
@example("~more=" + "a" * 240)
@example("~more=" + "a" * 236)
@example("a" * 240 + "." * 16)
@example("a" * 255 + ".")
@example("\0" * 84)
@example("é" * 125)
def test_every_segment_has_a_name_that_leads_back(segment: str) -> None:
    for name in (name_of(segment), name_beside(segment)):
        assert walk(name) == name
        assert not is_part(name)
        assert segment_in(name) == segment
        *parts, _ = name.split("/")
        for end in range(len(parts)):
            part = "/".join(parts[: end + 1])
            assert is_part(part)
            assert segment.startswith(segment_in(part))


@given(ANY, ANY)
def test_no_two_segments_share_a_name(one: str, other: str) -> None:
    names = [name_of(one), name_beside(one), name_of(other), name_beside(other)]
    assert len(set(names)) == len(names) // (1 + (one == other))


@given(ANY.filter(is_name))
def test_every_name_is_of_one_kind(name: str) -> None:
    """A name that programs make leads to a segment that is shown under that name, or is of a file beside, or a part."""
    if is_part(name):
        assert name_of(segment_in(name) + "b" * 300).startswith(f"{name[:-3]}")
        return
    shown = name_beside(segment_in(name)) if is_beside(name) else name_of(segment_in(name))
    assert shown == name


@given(st.lists(st.sampled_from(["a", "~more=", "~end=", "~file=", "~key=", "a" * 230, "é" * 118, "%25"]), max_size=9))
def test_every_path_through_parts_leads_to_one_segment_or_nowhere(pieces: list[str]) -> None:
    path = "".join(pieces).replace("~", "/~").strip("/")
    if not all(is_name(step) for step in path.split("/")):
        return
    name = walk(path)
    if name is None or is_part(name):
        return
    segment = segment_in(name)
    assert name in {name_of(segment), name_beside(segment)}


def test_the_key_of_a_path() -> None:
    long = "x" * 300
    for segments in (["a", "", "b"], [".."], [long], ["a", long, "c"], [long, long + "y"], ["a", ""]):
        assert key_of("/".join(map(name_of, segments))) == "/".join(segments)
    assert key_of("a/" + name_of(long).partition("/")[0]) == "a"


@pytest.mark.parametrize(
    "name", ["a", "%", "~", "~key", "~key=a", "~key=%", "~key=%2e", "~file=%", "é", "...", "~backup"]
)
def test_names_that_are_not_escaped(name: str) -> None:
    assert name_of(name) == segment_in(name) == name


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        ("", "~key="),
        (".", "~key=%2E"),
        ("..", "~key=%2E%2E"),
        ("a\0%", "~key=a%00%25"),
        ("~key=", "~key=~key="),
        ("~file=x", "~key=~file=x"),
        ("~key=a%00", "~key=~key=a%2500"),
    ],
)
def test_names_that_are(segment: str, name: str) -> None:
    assert name_of(segment) == name
    assert segment_in(name) == segment


def test_a_name_that_would_be_too_long_is_a_path() -> None:
    assert name_of("a" * 255) == "a" * 255
    assert name_of("a" * 256) == f"~more={'a' * 240}/~end={'a' * 16}"
    assert name_of("a" * 500) == f"~more={'a' * 240}/~more={'a' * 240}/~end={'a' * 20}"
    assert name_beside("é" * 125) == f"~more={'é' * 120}/~file={'é' * 5}"
    assert name_of("\0" * 84) == f"~more={'%00' * 80}/~end={'%00' * 4}"
    assert name_of("a" * 239 + "é" * 9) == f"~more={'a' * 239}/~end={'é' * 9}"


def test_a_file_beside_a_directory_and_a_part_can_not_be_made() -> None:
    assert check_free("~key=") == "~key="
    assert check_free(name_of("a" * 256)) == name_of("a" * 256)
    for name in ("~file=a", name_beside("a" * 256), f"~more={'a' * 240}", f"~more={'a' * 240}/~more={'a' * 240}"):
        with pytest.raises(Unsupported):
            check_free(name)


def test_long_keys() -> None:
    assert check_key("k" * MAX_KEY_BYTES) == "k" * MAX_KEY_BYTES
    for key in ("k" * (MAX_KEY_BYTES + 1), "é" * 513):
        with pytest.raises(NameTooLong):
            check_key(key)


@given(st.lists(SEGMENTS, min_size=1, max_size=4), st.sampled_from(["", "/"]))
def test_a_key_is_its_directory_and_its_name(segments: list[str], slash: str) -> None:
    prefix, name = split_key("/".join(segments) + slash)
    assert name == segments[-1]
    assert prefix == "".join(f"{segment}/" for segment in segments[:-1])
