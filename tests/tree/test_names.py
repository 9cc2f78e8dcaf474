"""From file names to key segments and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spacesfs.errors import NameNotUtf8, NameTooLong, Unsupported
from spacesfs.tree.names import (
    MAX_KEY_BYTES,
    MAX_SEGMENT_BYTES,
    check_key,
    is_beside,
    is_name,
    name_beside,
    name_of,
    name_to_take,
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


@given(HOSTILE)
@example("~key=~key=")
@example("~key=a")
@example("~file=")
def test_every_segment_has_a_name_that_leads_back(segment: str) -> None:
    for name in (name_of(segment), name_beside(segment)):
        if name is not None:
            assert is_name(name)
            assert segment_in(name) == segment


@given(HOSTILE, HOSTILE)
def test_no_two_segments_share_a_name(one: str, other: str) -> None:
    names = [name_of(one), name_beside(one), name_of(other), name_beside(other)]
    shown = [name for name in names if name is not None]
    assert len(set(shown)) == len(shown) // (1 + (one == other))


@given(HOSTILE.filter(is_name))
def test_every_name_is_of_one_kind(name: str) -> None:
    """A name that programs make leads to a segment that is shown under that name, unless it is of a file beside."""
    shown = name_beside(segment_in(name)) if is_beside(name) else name_of(segment_in(name))
    assert shown == name


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


def test_a_name_that_would_be_too_long() -> None:
    assert name_of("a" * 255) == "a" * 255
    assert name_of("a" * 256) is None
    assert name_beside("é" * 125) is None
    assert name_of("\0" * 84) is None


def test_a_file_beside_a_directory_can_not_be_made() -> None:
    assert name_to_take(b"~key=") == "~key="
    with pytest.raises(Unsupported):
        name_to_take(b"~file=a")


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
