"""The documents: their links resolve, and what they name exists and is complete."""

from __future__ import annotations

import ast
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from spacesfs.cli.settings import reference_table
from tests.cli.running import spacesfs

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
DECISIONS = ROOT / "docs" / "adr"

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FLAG = re.compile(r"--[a-z][a-z-]+")
GROUPS = ("config", "buckets", "uploads", "cdn", "pending")
COMMAND = re.compile(rf"(?:^|[` /(])spacesfs ((?:(?:{'|'.join(GROUPS)}) )?[a-z]+(?:-[a-z]+)*)\b", re.MULTILINE)
TARGET = re.compile(r"^make ([a-z-]+)", re.MULTILINE)
TABLE = re.compile(r"^<!-- options.*?-->\n(.*?)^<!-- end of options -->$", re.MULTILINE | re.DOTALL)
ERRNO_TEXTS = {os.strerror(number) for number in errno.errorcode}
SOURCE_PATH = re.compile(r"^(?:tests|spacesfs|scripts|systemd|docker|docs|requirements|\.ci)/[\w./@-]*$")

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@documents
def test_links_resolve(document: Path) -> None:
    for target in LINK.findall(FENCE.sub("", document.read_text())):
        if re.match("[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.is_relative_to(ROOT), target
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@documents
def test_files_named_in_code_exist(document: Path) -> None:
    named = {code for code in CODE.findall(FENCE.sub("", document.read_text())) if SOURCE_PATH.match(code)}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@documents
def test_commands_exist(document: Path) -> None:
    named = {command for code in code_of(document) for command in COMMAND.findall(code)}
    offered = commands()
    assert [command for command in sorted(named) if command not in offered] == []


@documents
def test_make_targets_exist(document: Path) -> None:
    named = {target for code in code_of(document) for target in TARGET.findall(code)}
    offered = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named <= set(offered)


@documents
def test_flags_of_our_commands_exist(document: Path) -> None:
    lines = [line for code in code_of(document) for line in code.replace("\\\n", " ").splitlines()]
    for line in lines:
        for command in COMMAND.findall(line):
            used = line.partition("#")[0].partition(f"spacesfs {command}")[2].partition("|")[0]
            assert set(FLAG.findall(used)) <= flags_of(command), line


def test_the_table_of_options_is_as_generated() -> None:
    match = TABLE.search((ROOT / "docs" / "configuration.md").read_text())
    assert match, "docs/configuration.md has no place for the table"
    assert match[1] == reference_table(), "run: make docs"


def test_the_map_of_modules_is_as_generated() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "modulemap.py"], stdout=subprocess.PIPE, check=True)
    assert (ROOT / "docs" / "modules.md").read_bytes() == done.stdout, "run: make docs"


def test_modules_that_the_architecture_names_exist() -> None:
    """A name with dots is a module below spacesfs, or something in one."""
    text = FENCE.sub("", (ROOT / "docs" / "architecture.md").read_text())
    packages = "|".join(path.name for path in (ROOT / "spacesfs").iterdir() if path.is_dir())
    named = re.findall(rf"`((?:{packages})(?:\.[a-z_]+)+)", text)
    assert named
    assert [name for name in named if not _is_module(name) and not _is_module(name.rpartition(".")[0])] == []


def _is_module(name: str) -> bool:
    path = ROOT / "spacesfs" / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_every_option_of_mount_is_documented() -> None:
    documented = set(FLAG.findall((ROOT / "docs" / "configuration.md").read_text()))
    positive = {flag for flag in flags_of("mount") if not flag.startswith("--no-")}
    assert positive - {"--help"} <= documented
    assert len(positive) > len({"--help", "--foreground"})


def test_every_command_is_shown_somewhere() -> None:
    shown = {command for document in DOCUMENTS for code in code_of(document) for command in COMMAND.findall(code)}
    assert commands() - set(GROUPS) - {"config reference"} <= shown


def test_every_decision_is_in_the_index() -> None:
    pages = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert pages
    assert LINK.findall((DECISIONS / "README.md").read_text()) == pages
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_a_decision_has_its_parts(page: Path) -> None:
    title, *sections = HEADING.findall(page.read_text())
    assert title.startswith(f"{int(page.name[:4])}. ")
    assert sections == ["Context", "Decision", "Consequences", "Rejected"]


def test_sections_that_are_tested_are_sections() -> None:
    text = (ROOT / "docs" / "semantics.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| `tests/", text.partition("## Where it is tested")[2], re.MULTILINE)
    assert rows
    titles = {title.lower() for title in HEADING.findall(text)}
    for row in rows:
        assert {part.strip().lower() for part in row.partition(":")[0].split(",")} <= titles, row


def test_messages_in_troubleshooting_are_said() -> None:
    """The first column of its tables quotes our program, or what programs make of an errno."""
    rows = re.findall(r"^\| (`.*?) \| ", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    quoted = {code for row in rows for code in CODE.findall(row)} - ERRNO_TEXTS
    assert len(quoted) > len(ERRNO_TEXTS & {code for row in rows for code in CODE.findall(row)}) > 0
    pieces = {piece.strip(" ;:,()?") for text in quoted for piece in text.split("…")} - {""}
    assert [piece for piece in sorted(pieces) if not any(piece in text for text in texts_of_source())] == []


def test_classes_that_the_architecture_names_exist() -> None:
    text = FENCE.sub("", (ROOT / "docs" / "architecture.md").read_text())
    named = {word for code in CODE.findall(text) for word in re.findall(r"\b[A-Z][a-z]\w*", code)}
    source = "".join(path.read_text() for path in sorted((ROOT / "spacesfs").rglob("*.py")))
    assert named
    others = {"Protocol", "If", "Match"}
    assert named - others - set(re.findall(r"^class (\w+)", source, re.MULTILINE)) == set()


@cache
def texts_of_source() -> frozenset[str]:
    """Return the pieces of text in the source, each up to where something is inserted."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "spacesfs").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def anchors(document: Path) -> set[str]:
    """Return what GitHub makes of the headings of a document."""
    titles = HEADING.findall(FENCE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def code_of(document: Path) -> Iterator[str]:
    """Yield the fenced blocks of a document and the code in its lines."""
    text = document.read_text()
    yield from FENCE.findall(text)
    yield from CODE.findall(FENCE.sub("", text))


@cache
def commands() -> frozenset[str]:
    """Return the commands that the program offers; those of a group with its name before them."""
    found = set()
    for group in ("", *GROUPS):
        listed = spacesfs(*group.split(), "--help").stdout.partition("Commands:\n")[2]
        found |= {f"{group} {name}".strip() for name in re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE)}
    return frozenset(found)


@cache
def flags_of(command: str) -> frozenset[str]:
    """Return the long flags that a command's help shows."""
    return frozenset(FLAG.findall(spacesfs(*command.split(), "--help").stdout))
