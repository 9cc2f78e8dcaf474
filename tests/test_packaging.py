"""What is shipped: wheel and source, manual pages, completion, and the systemd unit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacesfs import __version__

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
    shipped = {name for name in wheel.namelist() if not name.split("/")[0].endswith((".dist-info", ".data"))}
    assert "spacesfs/py.typed" in shipped
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "spacesfs").rglob("*.py")}
    assert shipped == modules | {"spacesfs/py.typed", "spacesfs/cli/spacesfs@.service"}


def test_the_wheel_carries_command_and_licence(wheel: zipfile.ZipFile) -> None:
    names = {re.sub(r"^[^/]*\.dist-info/", "", name): name for name in wheel.namelist()}
    commands = wheel.read(names["entry_points.txt"]).decode()
    assert "spacesfs = spacesfs.cli.main:main" in commands
    assert "mount.spacesfs = spacesfs.cli.fstab:main" in commands
    assert wheel.read(names["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_carries_the_manual_pages(wheel: zipfile.ZipFile) -> None:
    shipped = {Path(name).name for name in wheel.namelist() if "/data/share/man/man1/" in name}
    assert shipped == {page.name for page in (ROOT / "man" / "man1").iterdir()}
    assert {"spacesfs.1", "spacesfs-mount.1", "mount.spacesfs.1"} <= shipped


def test_the_manual_pages_are_as_generated(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "manpages.py"
    subprocess.run([sys.executable, script, tmp_path], cwd=ROOT, check=True, timeout=60)
    pages = {page.name: page.read_text() for page in (ROOT / "man" / "man1").iterdir()}
    made = {page.name: page.read_text() for page in (tmp_path / "man1").iterdir()}
    assert made.keys() == pages.keys(), "run: make docs"
    assert [name for name in made if made[name] != pages[name]] == [], "run: make docs"


@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_it_installs_and_runs_in_an_environment_of_its_own(target: str, tmp_path: Path) -> None:
    """What it needs is taken from the environment that runs the tests, so that no index is asked."""
    build = (sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(tmp_path))
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=BUILD_SECONDS)
    (package,) = (*tmp_path.glob("*.whl"), *tmp_path.glob("*.tar.gz"))
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=BUILD_SECONDS)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "needs.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    uv = Path(sys.executable).with_name("uv")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--offline", "--cache-dir", str(tmp_path / "cache"))
    command = [
        str(word) for word in (uv, "pip", "install", "-q", "--python", place / "bin" / "python", *options, package)
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=BUILD_SECONDS)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    spacesfs = str(place / "bin" / "spacesfs")
    assert "Mount a DigitalOcean Space" in run(spacesfs, "--help")
    assert json.loads(run(spacesfs, "version", "--json"))["spacesfs"] == __version__
    assert (place / "bin" / "mount.spacesfs").exists()
    assert (place / "share" / "man" / "man1" / "spacesfs-mount.1").exists()
    where = run(str(place / "bin" / "python"), "-c", "import spacesfs; print(spacesfs.__file__)")
    assert Path(where.strip()).is_relative_to(site)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for(shell: str) -> None:
    variables = os.environ | {"_SPACESFS_COMPLETE": f"{shell}_source"}
    command = [Path(sys.executable).with_name("spacesfs")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert "_SPACESFS_COMPLETE" in done.stdout


def test_completion_knows_the_commands() -> None:
    variables = os.environ | {"_SPACESFS_COMPLETE": "bash_complete", "COMP_WORDS": "spacesfs mo", "COMP_CWORD": "1"}
    command = [Path(sys.executable).with_name("spacesfs")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert "plain,mount" in done.stdout.splitlines()


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
