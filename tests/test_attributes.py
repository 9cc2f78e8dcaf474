"""Attributes in object metadata: ours come back as they were, and nobody else's can do harm."""

from __future__ import annotations

import base64
import json
import stat
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spacesfs.attributes import (
    METADATA_LIMIT_BYTES,
    AttributeDefaults,
    Attributes,
    attributes_of,
    metadata_bytes,
    metadata_with,
    read_xattrs,
    with_xattr,
)
from spacesfs.client.models import ObjectInfo, ObjectProperties

DEFAULTS = AttributeDefaults(uid=1000, gid=1001, file_mode=0o640, dir_mode=0o750)
MODIFIED_NS = 1_700_000_000_000_000_000
SECOND_NS = 10**9

FILE_KINDS = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
IDS = st.integers(0, 2**32 - 2)
TIMES = st.integers(-(2**33) * SECOND_NS, 2**33 * SECOND_NS + 999_999_999) | st.sampled_from([0, -1, 1, -SECOND_NS])
MODES = st.integers(0, 0o7777)
FILES = st.builds(
    Attributes,
    mode=st.builds(lambda kind, mode: kind | mode, st.sampled_from(FILE_KINDS), MODES),
    uid=IDS,
    gid=IDS,
    mtime_ns=TIMES,
    atime_ns=TIMES,
    ctime_ns=TIMES,
    rdev=st.integers(0, 2**32 - 2),
)
PLAIN_NAMES = st.from_regex(r"[a-z0-9-]{1,30}", fullmatch=True)
TEXT = st.text(max_size=40)
FOREIGN = st.dictionaries(PLAIN_NAMES, TEXT, max_size=5)
OWN = st.sampled_from(["mode", "uid", "gid", "mtime", "atime", "ctime", "rdev", "xattr"])
NUMBERISH = st.from_regex(r"[-+]?[0-9_]{0,30}(\.[0-9]{0,30})?(e[0-9]+)?[ \n]?", fullmatch=True)


def described(key: str, metadata: dict[str, str], size: int = 1) -> Attributes:
    info = ObjectInfo(key, size, "etag", MODIFIED_NS, ObjectProperties(metadata=metadata))
    return attributes_of(info, DEFAULTS, is_directory=key.endswith("/"))


# --- round trips


@given(attributes=FILES, foreign=FOREIGN)
def test_what_was_written_is_read_back(attributes: Attributes, foreign: dict[str, str]) -> None:
    written = metadata_with(attributes, foreign)
    assert described("f", written) == attributes
    assert {name: value for name, value in foreign.items() if name not in attributes_names()}.items() <= written.items()


@given(attributes=FILES)
def test_a_directory_comes_back_as_one(attributes: Attributes) -> None:
    directory = replace(attributes, mode=stat.S_IFDIR | stat.S_IMODE(attributes.mode))
    assert described("d/", metadata_with(directory, {})) == directory


@given(before=FILES, after=FILES)
@example(before=Attributes(stat.S_IFCHR, 0, 0, 0, 0, 0, rdev=5), after=Attributes(stat.S_IFREG, 0, 0, 0, 0, 0))
def test_nothing_of_older_attributes_shines_through(before: Attributes, after: Attributes) -> None:
    assert described("f", metadata_with(after, metadata_with(before, {}))) == after


@given(attributes=FILES)
def test_attributes_are_ascii_and_small(attributes: Attributes) -> None:
    written = metadata_with(attributes, {})
    assert all(value.isascii() and value.isprintable() and value == value.strip() for value in written.values())
    assert metadata_bytes(written) < 200


def attributes_names() -> set[str]:
    return {"mode", "uid", "gid", "mtime", "atime", "ctime", "rdev"}


# --- what others write


def test_an_object_without_metadata_has_the_defaults() -> None:
    assert described("f", {}) == Attributes(stat.S_IFREG | 0o640, 1000, 1001, MODIFIED_NS, MODIFIED_NS, MODIFIED_NS)
    assert described("d/", {}) == Attributes(stat.S_IFDIR | 0o750, 1000, 1001, MODIFIED_NS, MODIFIED_NS, MODIFIED_NS)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1795331529", 1795331529 * SECOND_NS),  # s3fs up to 1.86
        ("1795331529.948000001", 1795331529_948000001),  # s3fs since
        ("1600000000.123456789", 1600000000_123456789),  # rclone
        ("1600000000.5", 1600000000_500000000),  # rclone drops zeros at the end
        ("0", 0),
        ("-1", -SECOND_NS),
        ("1.0000000019", SECOND_NS + 1),
    ],
)
def test_times_of_other_programs(text: str, expected_ns: int) -> None:
    found = described("f", {"mtime": text})
    assert (found.mtime_ns, found.atime_ns, found.ctime_ns) == (expected_ns,) * 3


@pytest.mark.parametrize(
    "text", ["", "yesterday", "1e9", "1.", ".5", "0x10", "99999999999999", "1 ", "\u0661", "1_0", "1,5"]
)
def test_times_that_make_no_sense(text: str) -> None:
    assert described("f", {"mtime": text, "atime": text}).mtime_ns == MODIFIED_NS


def test_s3fs_metadata() -> None:
    found = described(
        "f",
        {"mode": "33188", "uid": "0", "gid": "100", "mtime": "1700000001.25", "ctime": "1700000002", "atime": "3.000"},
    )
    assert found == Attributes(0o100644, 0, 100, 1700000001_250000000, 3 * SECOND_NS, 1700000002 * SECOND_NS)


@pytest.mark.parametrize("mode", ["16877", "49588", "33188", "420", "0", "65535"])
def test_only_a_trailing_slash_makes_a_directory(mode: str) -> None:
    assert described("d/", {"mode": mode}).is_directory
    assert not described("f", {"mode": mode}).is_directory


@pytest.mark.parametrize(("mode", "kind"), [("33188", stat.S_IFREG), ("41471", stat.S_IFLNK), ("4516", stat.S_IFIFO)])
def test_kinds_of_files(mode: str, kind: int) -> None:
    found = described("f", {"mode": mode})
    assert found.kind == kind
    assert (found.is_regular, found.is_symlink) == (kind == stat.S_IFREG, kind == stat.S_IFLNK)


@pytest.mark.parametrize("size", [0, 4096, 5 << 40])
def test_what_can_be_no_target_makes_no_symlink(size: int) -> None:
    assert described("f", {"mode": "41471"}, size).is_regular
    assert described("f", {"mode": "41471"}, 4095).is_symlink


def test_a_mode_of_permissions_only_is_a_regular_file() -> None:
    assert described("f", {"mode": "420"}).mode == stat.S_IFREG | 0o644


@given(
    key=st.sampled_from(["f", "d/"]),
    metadata=st.dictionaries(OWN | PLAIN_NAMES, TEXT | NUMBERISH | st.text("0123456789.-", max_size=25), max_size=8),
)
def test_nothing_foreign_raises_or_leaves_the_bounds(key: str, metadata: dict[str, str]) -> None:
    found = described(key, metadata)
    assert found.is_directory == key.endswith("/")
    assert found.kind in (*FILE_KINDS, stat.S_IFDIR)
    assert 0 <= found.uid < 2**32 - 1
    assert 0 <= found.gid < 2**32 - 1
    assert 0 <= found.rdev < 2**32
    for time_ns in (found.mtime_ns, found.atime_ns, found.ctime_ns):
        assert abs(time_ns) <= (2**33 + 1) * SECOND_NS
    assert described(key, metadata_with(found, metadata)) == found


def test_touched() -> None:
    found = described("f", {}).touched(5)
    assert (found.mtime_ns, found.ctime_ns, found.atime_ns) == (5, 5, MODIFIED_NS)


# --- extended attributes


XATTR_NAMES = st.one_of(
    PLAIN_NAMES.map(lambda name: f"user.{name}"),
    OWN.map(lambda name: f"user.{name}"),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20).map(
        lambda name: f"user.{name}"
    ),
)
VALUES = st.binary(max_size=60) | st.text("abc XYZ09%=&;äé\0\n\t", max_size=20).map(str.encode)


@given(changes=st.lists(st.tuples(XATTR_NAMES, st.none() | VALUES), max_size=8), attributes=FILES)
def test_extended_attributes_come_back(changes: list[tuple[str, bytes | None]], attributes: Attributes) -> None:
    metadata = metadata_with(attributes, {})
    expected: dict[str, bytes] = {}
    for name, value in changes:
        metadata = with_xattr(metadata, name, value)
        expected.pop(name, None)
        if value is not None:
            expected[name] = value
        assert read_xattrs(metadata) == expected
    assert described("f", metadata) == attributes
    for name, text in metadata.items():
        assert text.isascii(), name
        assert text.isprintable(), name
        assert text == text.strip(), name


@pytest.mark.parametrize(
    ("name", "value", "is_plain"),
    [
        ("user.comment", b"hello, world", True),
        ("user.a-1", b"x", True),
        ("user.comment", b"", False),
        ("user.comment", b" padded ", False),
        ("user.comment", "ünï".encode(), False),
        ("user.comment", b"two\nlines", False),
        ("user.Capital", b"x", False),
        ("user.a.b", b"x", False),
        ("user.mtime", b"x", False),
        ("user.xattr", b"x", False),
        ("user.ä", b"x", False),
    ],
)
def test_what_is_plain_metadata_and_what_goes_into_the_document(name: str, value: bytes, is_plain: bool) -> None:
    metadata = with_xattr({"mtime": "1"}, name, value)
    assert metadata["mtime"] == "1"
    assert ("xattr" not in metadata) == is_plain
    assert (metadata.get(name.removeprefix("user.")) == value.decode()) == is_plain
    assert with_xattr(metadata, name, None) == {"mtime": "1"}


def test_the_document_is_that_of_s3fs() -> None:
    metadata = with_xattr({}, "user.Name", b"\0\xff")
    assert metadata == {"xattr": "%7B%22user.Name%22%3A%22AP8%3D%22%7D"}
    assert read_xattrs({"xattr": quote(json.dumps({"user.x": "AP8="}))}) == {"user.x": b"\0\xff"}


def test_a_value_that_changes_its_form_is_there_once() -> None:
    metadata = with_xattr(with_xattr({}, "user.a", b"plain"), "user.a", b"\0binary")
    assert read_xattrs(metadata) == {"user.a": b"\0binary"}
    assert read_xattrs(with_xattr(metadata, "user.a", b"plain")) == {"user.a": b"plain"}
    assert with_xattr(metadata, "user.a", b"plain") == {"a": "plain"}


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "%7B",
        "[]",
        "null",
        "1",
        '"text"',
        '{"user.a": 1}',
        '{"user.a": "%%%"}',
        "%ff",
        "[" * 100_000,
        "1" * 9999,
    ],
)
def test_a_document_that_makes_no_sense_counts_as_none(document: str) -> None:
    assert read_xattrs({"xattr": document, "a": "b"}) == {"user.a": b"b"}
    assert read_xattrs(with_xattr({"xattr": document}, "user.A", b"x")) == {"user.A": b"x"}


BASE64 = st.binary(max_size=5).map(lambda value: base64.b64encode(value).decode())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
)
DOCUMENTS = st.dictionaries(st.text(max_size=8).map("user.".__add__) | st.text(max_size=8), BASE64, max_size=4) | JSON


@given(document=TEXT | DOCUMENTS.map(json.dumps) | DOCUMENTS.map(json.dumps).map(quote), foreign=FOREIGN)
def test_names_read_from_foreign_metadata_can_be_told_to_the_kernel(document: str, foreign: dict[str, str]) -> None:
    for name, value in read_xattrs({**foreign, "xattr": document}).items():
        assert isinstance(value, bytes)
        assert name.startswith("user.")
        assert len(name) > len("user.")
        assert b"\0" not in name.encode()


@pytest.mark.parametrize(
    "name", ["security.capability", "", "user.", "user.a\0b", "user.\ud800", "system.posix_acl_access"]
)
def test_names_that_no_file_here_can_have_are_left_out(name: str) -> None:
    document = quote(json.dumps({name: "AA==", "user.good": base64.b64encode(b"x").decode()}))
    assert read_xattrs({"xattr": document}) == {"user.good": b"x"}


def test_the_limit_counts_names_and_values_in_bytes() -> None:
    assert metadata_bytes({}) == 0
    assert metadata_bytes({"ab": "cde", "f": "é"}) == 2 + 3 + 1 + 2
    assert metadata_bytes(with_xattr({}, "user.a", b"x" * (METADATA_LIMIT_BYTES - 1))) == METADATA_LIMIT_BYTES
