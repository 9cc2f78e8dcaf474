"""The documents as a site: it builds without a warning, leads to everything, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does; a dead link or a page that no menu has is an error there."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # not --quiet: it would hide warnings from --strict, too
    assert "WARNING" not in done.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    pages = {page.relative_to(site).with_suffix("").as_posix() for page in site.rglob("*.html")} - {"404"}
    documents = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in ROOT.glob("docs/**/*.md")}
    assert pages == documents - {"adr/README"} | {"adr/index", "index", "changelog"}


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert ELSEWHERE.findall(page.read_text()) == [], page


def test_tables_and_lists_are_made_of_what_looks_like_them(site: Path) -> None:
    """GitHub takes a list or table right behind a line of text or a comment for one; here it may need a blank line."""
    for page in site.rglob("*.html"):
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
        article = text.partition("<article")[2].partition("</article>")[0]
        assert article, page
        assert re.findall(r"^(?:<p>)?(?:\|.*\||[-*] .*|\d\. .*|```.*)$", article, re.MULTILINE) == [], page


def test_files_that_documents_link_are_there(site: Path) -> None:
    unit = (ROOT / "systemd" / "spacesfs@.service").read_text()
    assert (site / "files" / "systemd" / "spacesfs@.service.txt").read_text() == unit
    assert 'href="files/LICENSE.txt"' in (site / "index.html").read_text()
