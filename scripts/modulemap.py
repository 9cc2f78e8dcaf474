"""Print docs/modules.md: every module, with the first line of its docstring. `make docs` calls it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1] / "spacesfs"


_HEAD = """# Modules

Which module does what. How they fit together, and who may import whom, is in [architecture](architecture.md). This page
is made of the source by `make docs`."""


def module_map() -> str:
    """Return the page: a table for each package, and one for the modules beside them, in the order of names."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.name != "__init__.py")
    paths = sorted(found, key=lambda path: (path.parent, path.name))
    tables = (line for folder, modules in groupby(paths, lambda path: path.parent) for line in _table(folder, modules))
    return "\n".join((_HEAD, *tables))


def _table(folder: Path, modules: Iterator[Path]) -> Iterator[str]:
    yield from ("", f"## {('spacesfs' / folder).as_posix()}", "", "| module | |", "| --- | --- |")
    yield from (f"| `{module.name}` | {_first_line(ROOT / module)} |" for module in modules)


def _first_line(path: Path) -> str:
    """Return the first line of a module's docstring, as Markdown."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("``", "`").replace("|", "\\|").rstrip(".")


if __name__ == "__main__":
    sys.stdout.write(f"{module_map()}\n")
