"""What the Space must hold after a crash, by the logs of the programs, and what is wrong with what it holds.

A program does one thing after the other in a folder of its own. What was acknowledged must be there, exactly. One call
for each folder may have been cut short: it happened as a whole or not at all, but for a file that was being written,
which may hold for each byte the acknowledged one or any that was written since, as on a local disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tests.crash.calls import (
    Begun,
    Call,
    ChangeMode,
    Cut,
    Ended,
    Line,
    Link,
    MakeDirectory,
    Put,
    Reached,
    Remove,
    RemoveDirectory,
    Rename,
    SetTime,
    Step,
    Store,
    Write,
    data,
)

_BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Node:
    """A file (its bytes), a directory, or a link (its target); mode bits and mtime are None if nobody set them."""

    kind: str
    content: bytes = b""
    mode: int | None = None
    mtime_ns: int | None = None

    def matches(self, found: Node | None) -> bool:
        """Say whether a node found in the Space is this one."""
        return (
            found is not None
            and (self.kind, self.content) == (found.kind, found.content)
            and self.mode in {None, found.mode}
            and self.mtime_ns in {None, found.mtime_ns}
        )


Tree = dict[str, Node]
"""Nodes by path below a folder; the folder itself is ``""``."""


@dataclass(slots=True)
class Folder:
    """What one folder holds by what was acknowledged, and the call that was cut short there."""

    tree: Tree = field(default_factory=dict)
    doubt: Call | None = None
    reached: int = 0

    def in_doubt(self) -> set[str]:
        """Return the paths that the call in doubt can have changed."""
        if self.doubt is None:
            return set()
        return set(_changes(self.tree, self.doubt))


@dataclass(slots=True)
class Oracle:
    """All folders, and how many calls were acknowledged in them."""

    folders: dict[str, Folder] = field(default_factory=dict)
    acknowledged: int = 0
    errors: list[str] = field(default_factory=list)

    def read(self, lines: Iterable[Line]) -> None:
        """Take in what one program has logged."""
        begun: Begun | None = None
        for line in lines:
            match line:
                case Begun():
                    begun = line
                    folder = self.folders.setdefault(line.folder, Folder())
                    assert folder.doubt is None, "a folder is left alone after a call that failed"
                    folder.doubt, folder.reached = line.call, 0
                case Reached():
                    assert begun is not None
                    self.folders[begun.folder].reached = line.steps
                    self.acknowledged += 1
                case Ended():
                    assert begun is not None
                    if line.error:
                        self.errors.append(line.error)
                    else:
                        self._acknowledge(self.folders[begun.folder])

    def _acknowledge(self, folder: Folder) -> None:
        assert folder.doubt is not None
        for path, node in _changes(folder.tree, folder.doubt).items():
            if node is None:
                folder.tree.pop(path, None)
            else:
                folder.tree[path] = node
        folder.doubt = None
        self.acknowledged += 1

    def complaints(self, found: dict[str, Tree]) -> list[str]:
        """Say what is wrong with what the Space holds, a line each."""
        wrong = [f"{name}/ should not be there" for name in found if name not in self.folders]
        for name, folder in self.folders.items():
            wrong += [f"{name}/{line}" for line in _compare(folder, found.get(name, {}))]
        return wrong

    def adopt(self, found: dict[str, Tree]) -> None:
        """Take what was found for acknowledged: what was in doubt is decided."""
        for name in list(self.folders):
            folder, there = self.folders[name], found.get(name, {})
            if not there:
                del self.folders[name]
                continue
            folder.tree = {
                path: folder.tree[path] if path in folder.tree and folder.tree[path].matches(node) else _plain(node)
                for path, node in there.items()
            }
            folder.doubt = None


def _plain(node: Node) -> Node:
    return replace(node, mode=None, mtime_ns=None)


def _changes(tree: Tree, call: Call) -> dict[str, Node | None]:  # noqa: PLR0911 - one for each kind of call
    """Return the paths that a call changes, and what is there afterwards; None for nothing."""
    match call:
        case Write(path):
            old = tree.get(path)
            mode = old.mode if old is not None else call.mode
            return {path: Node("file", _written(_start(tree, call), call.steps), mode)}
        case Rename(path, new_path):
            moved = {
                under: new_path + under.removeprefix(path) for under in tree if under == path or _is_below(under, path)
            }
            changed: dict[str, Node | None] = dict.fromkeys(moved)
            return changed | {new: tree[old] for old, new in moved.items()}
        case Remove(path) | RemoveDirectory(path):
            return {path: None}
        case MakeDirectory(path, mode):
            return {path: Node("directory", b"", mode)}
        case Link(path, target):
            return {path: Node("link", target.encode())}
        case ChangeMode(path, mode):
            return {path: replace(tree[path], mode=mode)}
        case SetTime(path, mtime_ns):
            return {path: replace(tree[path], mtime_ns=mtime_ns)}


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(f"{directory}/")


def _start(tree: Tree, call: Write) -> bytes:
    old = tree.get(call.path)
    return b"" if call.empties or old is None else old.content


def _written(content: bytes, steps: Iterable[Step]) -> bytes:
    buffer = bytearray(content)
    for step in steps:
        match step:
            case Put(offset, seed, size) | Store(offset, seed, size):
                buffer.extend(bytes(max(offset - len(buffer), 0)))
                buffer[offset : offset + size] = data(seed, size)
            case Cut(size):
                buffer[size:] = bytes(max(size - len(buffer), 0))
    return bytes(buffer)


def _compare(folder: Folder, found: Tree) -> list[str]:
    changed = _changes(folder.tree, folder.doubt) if folder.doubt is not None else {}
    wrong = []
    for path in sorted({*folder.tree, *found} - changed.keys()):
        expected = folder.tree.get(path)
        if expected is None:
            wrong.append(f"{path} should not be there: {describe(found[path])}")
        elif not expected.matches(found.get(path)):
            wrong.append(f"{path} should be {describe(expected)}, and is {describe(found.get(path))}")
    if folder.doubt is not None:
        wrong += _compare_doubtful(folder, folder.doubt, changed, found)
    return wrong


def _compare_doubtful(folder: Folder, call: Call, changed: dict[str, Node | None], found: Tree) -> list[str]:
    if isinstance(call, Write):
        reason = _torn(folder, call, found.get(call.path))
        return [f"{call.path} {reason}, after {call} was cut short past step {folder.reached}"] if reason else []
    is_old = all(_is_same(folder.tree.get(path), found.get(path)) for path in changed)
    is_new = all(_is_same(node, found.get(path)) for path, node in changed.items())
    if is_old or is_new:
        return []
    state = {path: describe(found.get(path)) for path in changed}
    return [f"is neither as before nor as after {call}: {state}"]


def _is_same(expected: Node | None, found: Node | None) -> bool:
    return found is None if expected is None else expected.matches(found)


def _torn(folder: Folder, call: Write, found: Node | None) -> str:
    """Say what is wrong with a file whose writing was cut short; nothing if nothing is."""
    old = folder.tree.get(call.path)
    if found is None:
        return "is gone" if old is not None or folder.reached else ""
    if found.kind != "file":
        return f"is a {found.kind}"
    start = _start(folder.tree, call)
    if folder.reached:
        versions = [_written(start, call.steps[: folder.reached])]
    else:
        versions = [old.content, start] if old is not None else [start]
    steps = call.steps[folder.reached :]
    for step in steps:
        if isinstance(step, Put | Store | Cut):
            versions.append(_written(versions[-1], [step]))
    sizes = [len(version) for version in versions]
    if not min(sizes) <= len(found.content) <= max(sizes):
        return f"has {len(found.content)} bytes, not between {min(sizes)} and {max(sizes)}"
    distinct = list(dict.fromkeys(versions))
    for start_of_block in range(0, len(found.content), _BLOCK_BYTES):
        if not _is_possible(found.content, distinct, start_of_block):
            return f"has bytes at {start_of_block} that nobody wrote"
    return ""


def _is_possible(content: bytes, versions: list[bytes], start: int) -> bool:
    """Say whether each byte of a block is that of some version, or a zero past the end of one."""
    end = min(start + _BLOCK_BYTES, len(content))
    block = content[start:end]
    padded = [version[start:end].ljust(end - start, b"\0") for version in versions]
    if block in padded:
        return True
    return all(byte in {version[index] for version in padded} for index, byte in enumerate(block))


def describe(node: Node | None) -> str:
    """Return a node in few words."""
    if node is None:
        return "nothing"
    mode = "" if node.mode is None else f", mode {node.mode:o}"
    time = "" if node.mtime_ns is None else f", mtime {node.mtime_ns}"
    return f"a {node.kind} of {len(node.content)} bytes ({node.content[:8].hex()}…){mode}{time}"
