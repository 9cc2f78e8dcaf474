"""Options as fstab has them, and the file that the keys of a mount at boot come from."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs.cli.fstab import Written, parse_mount_options, read_environment_file
from spacesfs.cli.layers import FlagError
from spacesfs.config import OPTIONS, Option
from spacesfs.errors import MountError


def test_options_of_others_are_left_to_them() -> None:
    text = "_netdev,nofail,noauto,x-systemd.automount,x-systemd.mount-timeout=60,defaults,rw,user,comment=ours"
    assert parse_mount_options([text]) == Written({}, None)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.key)
def test_every_option_can_stand_there_in_both_spellings(option: Option) -> None:
    for name in (option.key, option.name):
        assert parse_mount_options([f"_netdev,{name}=some"]).flags == {option.name: "some"}
        if option.is_switch:
            assert parse_mount_options([name]).flags == {option.name: True}


def test_values_with_commas_stand_in_quotes() -> None:
    text = 'credential_command="pass a,b",ro,environment-file=/etc/keys'
    assert parse_mount_options([text]) == Written(
        {"credential_command": "pass a,b", "read_only": True}, Path("/etc/keys")
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memry=1G", "did you mean memory"),
        ("memory", "memory wants a value"),
        ("noexec", "unknown option noexec"),
        ("remount,ro", "can't be remounted"),
        ("zzz", "spacesfs mount --help"),
    ],
)
def test_what_can_not_stand_there(text: str, words: str) -> None:
    with pytest.raises(FlagError, match=words):
        parse_mount_options([text])


def test_mount_8_may_ask_to_leave_out_what_is_not_known() -> None:
    assert parse_mount_options(["memry=1G,ro"], is_sloppy=True).flags == {"read_only": True}


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(FlagError):
        assert set(parse_mount_options([text]).flags) <= set(OPTIONS)


def test_a_file_of_assignments(tmp_path: Path) -> None:
    path = tmp_path / "keys.env"
    path.write_text("# keys\n\nSPACES_ACCESS_KEY_ID=abc\nSPACES_SECRET_ACCESS_KEY='d e f'\nSPACESFS_REGION=\"fra1\"\n")
    path.chmod(0o600)
    assert read_environment_file(path) == {
        "SPACES_ACCESS_KEY_ID": "abc",
        "SPACES_SECRET_ACCESS_KEY": "d e f",
        "SPACESFS_REGION": "fra1",
    }


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"A=1", 0o644, "chmod 600"),
        (b"A=1\nnonsense", 0o600, "line 2: write NAME=value"),
        (b"\xff", 0o600, "not UTF-8"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, content: bytes, mode: int, words: str) -> None:
    path = tmp_path / "keys.env"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(MountError, match=words) as caught:
        read_environment_file(path)
    assert "A=1" not in str(caught.value)


def helper(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from spacesfs.cli.fstab import main; main()", *arguments]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_helper_ends_as_mount_8_expects(tmp_path: Path) -> None:
    """1 is wrong usage, 32 a mount that failed, with one line each."""
    wrong = helper("my-bucket", str(tmp_path), "-o", "rw,memry=1G", home=tmp_path)
    failed = helper("my-bucket", str(tmp_path / "missing"), "-n", "-o", "rw,region=fra1", home=tmp_path)
    assert (wrong.returncode, failed.returncode) == (1, 32)
    assert "did you mean memory" in wrong.stderr
    assert "does not exist" in failed.stderr
    assert len((wrong.stderr + failed.stderr).splitlines()) == 2


def test_the_helper_does_all_but_mounting_when_asked(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    done = helper("my-bucket", str(tmp_path / "mnt"), "-fsv", "-o", "rw,region=fra1,memry=1", home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
