"""The systemd unit that ``spacesfs install-unit`` writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spacesfs.cli.unit import _escaped, unit_text
from spacesfs.errors import MountError
from tests.cli.running import complaint, spacesfs

HARD = Path('/mnt/a b%i"c\\d$HOME-é')


def test_a_unit_is_written_and_says_what_is_next(tmp_path: Path) -> None:
    done = spacesfs("install-unit", "my-bucket:some/prefix", "/mnt/photos", "--directory", str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "spacesfs-mnt-photos.service").read_text()
    assert 'mount --foreground "my-bucket:some/prefix" ${MOUNTPOINT}' in text
    assert 'Environment="MOUNTPOINT=/mnt/photos"' in text
    assert "EnvironmentFile=/etc/spacesfs/my-bucket.env" in text
    assert "%i" not in text
    assert "systemctl enable --now spacesfs-mnt-photos.service" in done.stdout


def test_systemd_takes_any_mountpoint(tmp_path: Path) -> None:
    unit = tmp_path / "spacesfs-test.service"
    unit.write_text(unit_text("my-bucket:50%", HARD, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", ["/", "/mnt/a", "/mnt/a-b/c d", "/.hidden/x", "/srv/ümlaut"])
def test_names_are_as_systemd_escapes_them(path: str) -> None:
    assert shutil.which("systemd-escape")
    escaped = subprocess.run(["systemd-escape", "--path", path], capture_output=True, text=True, check=True).stdout
    assert _escaped(Path(path)) == escaped.strip()


def test_a_line_break_can_not_stand_in_a_unit() -> None:
    with pytest.raises(MountError, match="line break"):
        unit_text("my-bucket", Path("/mnt/a\nExecStart=/bin/evil"), sys.executable)


def test_a_folder_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "x")
    assert "can't be written" in complaint("install-unit", "my-bucket", "/mnt/photos", "--directory", folder, status=1)
