"""From file names to key segments and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.errors import NameNotUtf8, NameTooLong
from spacesfs.tree.names import MAX_KEY_BYTES, MAX_SEGMENT_BYTES, check_key, is_name, segment_of, split_key

SEGMENTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda segment: segment not in (".", "..") and len(segment.encode()) <= MAX_SEGMENT_BYTES
)


@given(SEGMENTS)
def test_every_name_is_its_own_segment(name: str) -> None:
    assert segment_of(name.encode()) == name
    assert is_name(name)


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_give_a_segment_or_one_of_two_errors(name: bytes) -> None:
    try:
        assert segment_of(name).encode() == name
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
