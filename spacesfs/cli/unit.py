"""``spacesfs install-unit``: a systemd service of one mount, made from the template and verified before it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import click

from spacesfs.cli.fstab import ENVIRONMENT_FOLDER
from spacesfs.cli.output import say
from spacesfs.cli.paths import complete_path, resolved, split_space
from spacesfs.errors import MountError
from spacesfs.fuse.programs import bare_environment

_TEMPLATE = "spacesfs@.service"
_COMMAND = "/usr/local/bin/spacesfs"  # where the template has it
_VERIFY_SECONDS = 60.0


@click.command()
@click.argument("space", metavar="BUCKET[:PREFIX]")
@click.argument("mountpoint", shell_complete=complete_path)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/etc/systemd/system"),
    show_default=True,
    help="Where units lie.",
)
def install_unit(space: str, mountpoint: str, *, directory: Path) -> None:
    """Write a systemd service that mounts a Space on MOUNTPOINT at boot, and verify it."""
    bucket, _ = split_space(space)
    place = resolved(mountpoint)
    unit = directory / f"spacesfs-{_escaped(place)}.service"
    text = unit_text(space, place, _command())
    complaints = _verify(unit.name, text)
    if complaints:
        raise MountError(f"systemd does not take the unit: {complaints}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        unit.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MountError(f"{unit} can't be written: {error.strerror}") from error
    say(f"wrote {unit}")
    keys = ENVIRONMENT_FOLDER / f"{bucket}.env"
    if not keys.exists():
        say(f"write the keys to {keys}, mode 0600: SPACES_ACCESS_KEY_ID=... and SPACES_SECRET_ACCESS_KEY=...")
    say(f"then: systemctl daemon-reload && systemctl enable --now {unit.name}")


def unit_text(space: str, mountpoint: Path, command: str) -> str:
    """Return the template with one mount in it.

    Args:
        space: ``BUCKET`` or ``BUCKET:PREFIX``.
        mountpoint: Absolute.
        command: The ``spacesfs`` program, absolute.

    Raises:
        MountError: A name holds a line break, which no unit can express.
    """
    if "\n" in f"{space}{mountpoint}{command}":
        raise MountError("a name with a line break can't stand in a unit")
    bucket = space.partition(":")[0]
    template = (files("spacesfs.cli") / _TEMPLATE).read_text(encoding="utf-8")
    _, _, body = template.partition("[Unit]")
    replaced = (
        f"[Unit]{body}".replace("Environment=MOUNTPOINT=/mnt/%i", f"Environment={_quoted(f'MOUNTPOINT={mountpoint}')}")
        .replace(
            f"{_COMMAND} mount --foreground %i", f"{_COMMAND} mount --foreground {_quoted(space).replace('$', '$$')}"
        )
        .replace(f"{ENVIRONMENT_FOLDER}/%i.env", f"{ENVIRONMENT_FOLDER}/{bucket}.env")
        .replace("Space %i", f"Space {space.replace('%', '%%')}")
        .replace(_COMMAND, _argument(command))
    )
    return f"# Made by `spacesfs install-unit`.\n{replaced}"


def _quoted(word: str) -> str:
    """Write a word so that systemd takes it as one, and as it is, in a setting."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if escaped.replace("/", "").replace("-", "").replace(".", "").isalnum() else f'"{escaped}"'


def _argument(word: str) -> str:
    """Write a word of a command line: there a dollar sign means a variable."""
    return _quoted(word).replace("$", "$$")


def _escaped(path: Path) -> str:
    """Return a path as systemd-escape(1) has it in the name of a unit."""
    name = "/".join(part for part in str(path).split("/") if part)
    if not name:
        return "-"
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_."
    return "".join(
        "-"
        if byte == ord("/")
        else chr(byte)
        if chr(byte) in plain and not (index == 0 and byte == ord("."))
        else f"\\x{byte:02x}"
        for index, byte in enumerate(os.fsencode(name))
    )


def _command() -> str:
    """Return the program that runs now, as a unit can call it."""
    command = Path(sys.argv[0])
    if command.name == "spacesfs" and command.is_file():
        return str(command.absolute())
    beside = Path(sys.executable).with_name("spacesfs")
    return str(beside) if beside.is_file() else shutil.which("spacesfs") or _COMMAND


def _verify(name: str, text: str) -> str:
    """Return what systemd says against a unit; nothing where there is no systemd to ask."""
    if shutil.which("systemd-analyze") is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder, name)
        unit.write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            env=bare_environment(),
            capture_output=True,
            text=True,
            timeout=_VERIFY_SECONDS,
            check=False,
        )
    return (done.stderr + done.stdout).strip()
