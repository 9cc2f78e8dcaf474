"""What is shipped: the wheel and the systemd unit."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "systemd" / "spacesfs@.service"
BUILD_SECONDS = 120

# systemd.exec(5): each of these gives the service a mount namespace, which hides the Space from everybody else.
NAMESPACE_OPTIONS = {
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "InaccessiblePaths",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "RootImage",
    "TemporaryFileSystem",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The project's wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=BUILD_SECONDS)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert "spacesfs/py.typed" in shipped
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "spacesfs").rglob("*.py")}
    assert shipped == modules | {"spacesfs/py.typed", "spacesfs/cli/spacesfs@.service"}


def test_the_wheel_carries_command_and_licence(wheel: zipfile.ZipFile) -> None:
    names = {re.sub(r"^[^/]*\.dist-info/", "", name): name for name in wheel.namelist()}
    commands = wheel.read(names["entry_points.txt"]).decode()
    assert "spacesfs = spacesfs.cli.main:main" in commands
    assert "mount.spacesfs = spacesfs.cli.fstab:main" in commands
    assert wheel.read(names["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    # The verifier wants the programs to exist; this interpreter stands in for the installed command.
    unit = tmp_path / "spacesfs@bucket.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/spacesfs", sys.executable))
    command = ("systemd-analyze", "verify", "--man=no", str(unit))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_gets_no_mount_namespace() -> None:
    options = {line.partition("=")[0] for line in UNIT.read_text().splitlines() if re.match("[A-Z]", line)}
    assert {"Type", "ExecStart", "StateDirectory"} <= options
    assert not options & NAMESPACE_OPTIONS
