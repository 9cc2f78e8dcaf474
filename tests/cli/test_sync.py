"""Which arguments name a Space, and what is said where nothing waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from spacesfs.cli.main import main
from spacesfs.cli.paths import names_space
from spacesfs.fuse import sockets
from tests.cli.running import complaint


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("my-bucket", True),
        ("my-bucket:some/prefix", True),
        ("my.bucket:", True),
        ("/mnt/space", False),
        ("./my-bucket", False),
        ("some/path", False),
        (".", False),
        ("..", False),
        ("~/space", False),
    ],
)
def test_what_names_a_space(text: str, is_so: bool) -> None:
    assert names_space(text) is is_so


def test_a_file_that_has_the_name_of_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-bucket").touch()
    monkeypatch.chdir(tmp_path)
    assert names_space("my-bucket")


@pytest.mark.parametrize(
    "command", [("sync",), ("pending", "list"), ("pending", "retry"), ("pending", "drop", "--all")]
)
def test_a_space_without_a_journal(tmp_path: Path, command: tuple[str, ...]) -> None:
    line = complaint(*command, "no-such-space", "--state-dir", str(tmp_path), status=1)
    assert line == f"no journal of no-such-space is in {tmp_path}; `spacesfs pending list` shows what is there"


def test_nothing_waits_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Other runs on this host have mounts, and root asks them all: here it looks for sockets in an empty folder."""
    monkeypatch.setattr(sockets, "_search_directories", lambda: [tmp_path])
    assert main(["pending", "list", "--state-dir", str(tmp_path / "missing")]) == 0
    assert capfd.readouterr() == ("", "")


def test_drop_needs_to_be_told_what(tmp_path: Path) -> None:
    assert "name the paths to drop, or give --all" in complaint("pending", "drop", "my-bucket", status=2)
    both = complaint("pending", "drop", "my-bucket", "f", "--all", "--state-dir", str(tmp_path), status=2)
    assert "name the paths to drop, or give --all" in both
