"""A hook of mkdocs: documents link as they lie in the repository, and the site has a page or a copy for each target.

README.md becomes the first page and CHANGELOG.md a page; of other files outside docs/ the site has copies.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs"
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
COPIES = (
    "LICENSE",
    "docker/Dockerfile",
    "docker/compose.yml",
    "docker/kubernetes.yaml",
    "systemd/spacesfs@.service",
    "tests/crash/harness.py",
)

_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for source in COPIES:
        files.append(File.generated(config, f"files/{source}.txt", content=(ROOT / source).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a document, which lead through the repository, into those of the site."""
    del config, files
    uri = page.file.src_uri
    document = next((source for source, target in PAGES.items() if target == uri), f"{DOCS}/{uri}")

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), link[1]))
        relative = posixpath.relpath(_place_of(target), posixpath.dirname(uri) or ".")
        return f"]({relative}{link[2] or ''})"

    return _LINK.sub(turned, markdown)


def _place_of(path: str) -> str:
    """Return where in the site a file of the repository is."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix(f"{DOCS}/") if path.startswith(f"{DOCS}/") else f"files/{path}.txt"
