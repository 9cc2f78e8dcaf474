"""Programs that we start see no key."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spacesfs.cli.version import facts
from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import unmount

SOURCE = Path(__file__).parents[2] / "spacesfs"
GIVES_ALL = {
    "cli/demo.py",  # has an environment of its own making
}


def test_the_environment_of_a_program_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    program = tmp_path / "fusermount3"
    program.write_text(f"#!/bin/sh\nenv >> {seen}\necho fusermount3 version: 3.14.0\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("SPACES_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DIGITALOCEAN_TOKEN"):
        monkeypatch.setenv(name, "s3cr3t-value")
    assert facts()["fusermount3"] == "3.14.0"
    monkeypatch.setattr("spacesfs.fuse.mountpoint.os.geteuid", lambda: 1000)
    with pytest.raises(MountError):
        unmount(tmp_path)
    text = seen.read_text()
    assert text.count("PATH=") >= 2
    assert "s3cr3t" not in text


def test_what_is_started_by_a_library_sees_no_key_and_we_still_do() -> None:
    """For libfuse, which does not ask us what to give to fusermount3, stands a shell that C starts."""
    script = (
        "import os; from spacesfs.fuse.process import prepare_process; prepare_process(); "
        "print(os.environ['AWS_SECRET_ACCESS_KEY'], flush=True); os.system('env')"
    )
    given = {"PATH": os.environ["PATH"], "AWS_SECRET_ACCESS_KEY": "s3cr3t", "HTTPS_PROXY": "http://me:s3cr3t@proxy"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=given, cwd=SOURCE.parent, capture_output=True, text=True, check=True
    )
    ours, *theirs = done.stdout.splitlines()
    assert ours == "s3cr3t"
    assert f"PATH={given['PATH']}" in theirs
    assert not [line for line in theirs if "s3cr3t" in line]


@pytest.mark.parametrize("module", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_program_is_given_an_environment(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"subprocess.run", "subprocess.Popen"}:
            given = {keyword.arg for keyword in node.keywords}
            assert "env" in given or str(module.relative_to(SOURCE)) in GIVES_ALL, node.lineno
