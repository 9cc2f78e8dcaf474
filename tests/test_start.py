"""Where the journal can't be relied on, the mount says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spacesfs import start
from spacesfs.config import Durability, MountConfig


def config(state_dir: Path, **values: Any) -> MountConfig:
    return MountConfig(bucket="my-bucket", region="fra1", mountpoint=Path("/mnt"), state_dir=state_dir, **values)


def test_on_a_disk_nothing_is_said(tmp_path: Path) -> None:
    given = config(tmp_path)
    assert start.with_safe_durability(given) == (given, [])


def test_in_memory_the_default_is_the_space() -> None:
    found, [notice] = start.with_safe_durability(config(Path("/dev/shm/spacesfs")))  # noqa: S108 - a tmpfs everywhere
    assert found.durability is Durability.SPACE
    assert "is in memory" in notice


def test_in_memory_what_is_asked_for_is_kept() -> None:
    given = config(Path("/dev/shm/spacesfs"), durability="fsync")  # noqa: S108 - as above
    found, [notice] = start.with_safe_durability(given)
    assert found.durability is Durability.FSYNC
    assert "is in memory" in notice


@pytest.mark.parametrize(("filesystem", "is_warned"), [("overlay", True), ("ext4", False)])
def test_in_a_container_without_a_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filesystem: str, is_warned: bool
) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    monkeypatch.setattr(start, "_CONTAINER_MARKS", (mark,))
    monkeypatch.setattr(start, "filesystem_of", lambda _: filesystem)
    found, notices = start.with_safe_durability(config(tmp_path))
    assert found.durability is Durability.JOURNAL
    assert [("volume" in notice) for notice in notices] == [True] * is_warned
