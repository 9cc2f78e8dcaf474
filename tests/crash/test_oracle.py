"""The judge of the crash rounds finds what it is there to find, and nothing else."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.crash.calls import (
    Begun,
    Call,
    ChangeMode,
    Ended,
    Line,
    MakeDirectory,
    Put,
    Reached,
    Remove,
    Rename,
    SetTime,
    Sync,
    Write,
    data,
)
from tests.crash.oracle import Node, Oracle, Tree

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
OLD, PATCH = data(1, 9000), data(2, 5000)
PATCHED = OLD[:2000] + PATCH + OLD[7000:]
ROOT = Node("directory", b"", 0o755)


def made(*calls: Call) -> Oracle:
    """Return what is owed after calls that all returned, in one folder."""
    oracle = Oracle()
    lines: list[Line] = []
    for number, call in enumerate((MakeDirectory("", 0o755), *calls)):
        lines += [Begun(number, "p", call), Ended(number, "")]
    oracle.read(lines)
    return oracle


def with_doubt(oracle: Oracle, call: Call, reached: int = 0) -> Oracle:
    """Add a call that did not return."""
    oracle.read([Begun(99, "p", call), *([Reached(99, reached)] if reached else [])])
    return oracle


def write(path: str, seed: int, size: int, offset: int = 0, flags: int = NEW) -> Write:
    return Write(path, flags, 0o640, [Put(offset, seed, size)])


def file(content: bytes, mode: int | None = 0o640, mtime_ns: int | None = 5) -> Node:
    return Node("file", content, mode, mtime_ns)


def verdict(oracle: Oracle, **nodes: Node) -> list[str]:
    tree: Tree = {"": ROOT, **nodes}
    return oracle.complaints({"p": tree})


def test_what_was_acknowledged_must_be_there_exactly() -> None:
    oracle = made(write("f", 1, 9000), SetTime("f", 5))
    assert verdict(oracle, f=file(OLD)) == []
    assert verdict(oracle)
    assert verdict(oracle, f=file(OLD[:-1]))
    assert verdict(oracle, f=file(PATCHED))
    assert verdict(oracle, f=file(OLD, mode=0o600))
    assert verdict(oracle, f=file(OLD, mtime_ns=6))
    assert verdict(oracle, f=Node("link", OLD))
    assert verdict(oracle, f=file(OLD), **{"f.conflict-host-1": file(OLD)})
    assert oracle.complaints({"p": {"": ROOT, "f": file(OLD)}, "q": {"": ROOT}})
    assert oracle.complaints({})


def test_what_was_removed_or_renamed_must_be_gone() -> None:
    oracle = made(write("f", 1, 9000), write("g", 2, 5000), Rename("g", "f", by_program=False))
    assert verdict(oracle, f=file(PATCH)) == []
    assert verdict(oracle, f=file(PATCH), g=file(PATCH))
    assert verdict(oracle, f=file(OLD))
    oracle = made(write("f", 1, 9000), Remove("f"))
    assert verdict(oracle) == []
    assert verdict(oracle, f=file(OLD))


def test_a_patch_that_was_cut_short_may_have_left_each_byte_old_or_new() -> None:
    oracle = with_doubt(made(write("f", 1, 9000)), write("f", 2, 5000, offset=2000, flags=os.O_RDWR))
    for content in (OLD, PATCHED, OLD[:2000] + PATCH[:777] + OLD[2777:]):
        assert verdict(oracle, f=file(content)) == []
    assert verdict(oracle)
    assert verdict(oracle, f=file(OLD[:8000]))
    assert verdict(oracle, f=file(OLD[:2000] + bytes(5000) + OLD[7000:]))


def test_a_file_that_was_emptied_and_not_written_to_its_end() -> None:
    oracle = with_doubt(made(write("f", 1, 9000)), write("f", 2, 5000, flags=os.O_RDWR | os.O_TRUNC))
    for content in (OLD, b"", PATCH, PATCH[:100]):
        assert verdict(oracle, f=file(content)) == []
    assert verdict(oracle, f=file(data(3, 5000)))
    assert verdict(oracle)


def test_what_fsync_acknowledged_in_the_midst_of_a_file() -> None:
    call = Write("f", NEW, 0o640, [Put(0, 1, 9000), Sync(), Put(9000, 2, 5000)])
    oracle = with_doubt(made(), call, reached=2)
    assert verdict(oracle, f=file(OLD)) == []
    assert verdict(oracle, f=file(OLD + PATCH[:1000])) == []
    assert verdict(oracle)
    assert verdict(oracle, f=file(OLD[:8999]))
    assert verdict(with_doubt(made(), call)) == []


@pytest.mark.parametrize("found", [{"f": file(OLD)}, {"g": file(OLD)}])
def test_a_rename_that_was_cut_short_happened_or_did_not(found: Tree) -> None:
    oracle = with_doubt(made(write("f", 1, 9000)), Rename("f", "g", by_program=False))
    assert verdict(oracle, **found) == []
    assert verdict(oracle)
    assert verdict(oracle, f=file(OLD), g=file(OLD))


def test_the_rename_of_a_directory_moves_all_or_nothing() -> None:
    calls = (MakeDirectory("d", 0o755), write("d/f", 1, 9000), write("d/g", 2, 5000))
    oracle = with_doubt(made(*calls), Rename("d", "e", by_program=False))
    old: Tree = {"d": ROOT, "d/f": file(OLD), "d/g": file(PATCH)}
    new: Tree = {path.replace("d", "e", 1): node for path, node in old.items()}
    assert verdict(oracle, **old) == []
    assert verdict(oracle, **new) == []
    assert verdict(oracle, **{"d": ROOT, "e": ROOT, "d/f": file(OLD), "e/g": file(PATCH)})


def test_what_was_found_is_what_the_next_round_starts_from() -> None:
    oracle = with_doubt(made(write("f", 1, 9000), ChangeMode("f", 0o600)), Remove("f"))
    oracle.adopt({"p": {"": ROOT}})
    assert verdict(oracle) == []
    assert verdict(oracle, f=replace(file(OLD), mode=0o600))
