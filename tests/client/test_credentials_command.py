"""The access key from a command: what it may print, and that nothing it prints shows up anywhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from spacesfs.client.credentials import Credentials, CredentialsError
from spacesfs.client.credentials_chain import KeySearch
from spacesfs.client.credentials_command import CommandProvider


@pytest.mark.parametrize(
    ("printed", "key"),
    [
        ("ID\nthe-secret\n", ("ID", "the-secret")),
        ("ID\nthe-secret", ("ID", "the-secret")),
        ("ID\r\nthe-secret\r\n\n", ("ID", "the-secret")),
        ('{"Version": 1, "AccessKeyId": "ID", "SecretAccessKey": "the-secret"}', ("ID", "the-secret")),
        ('\n{"AccessKeyId": "ID", "SecretAccessKey": "s", "SessionToken": "t"}\n', ("ID", "s", "t")),
        ('{"access_key_id": "ID", "secret_access_key": "s", "session_token": ""}', ("ID", "s")),
    ],
)
def test_what_a_command_may_print(tmp_path: Path, printed: str, key: tuple[str, ...]) -> None:
    (tmp_path / "key").write_text(printed)
    found = KeySearch({"SPACES_KEY": "half"}, tmp_path, command=f"cat '{tmp_path}/key'").find()
    assert (found, found.source) == (Credentials(*key), "credential command cat")


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (b"", "two lines"),
        (b"geheim", "two lines"),
        (b"ID\ngeheim\nmore", "two lines"),
        (b"\n", "two lines"),
        (b"ID\nge heim", "holds characters"),
        (b"ID\n\xff", "not text"),
        (b'{"AccessKeyId": "geheim"', "broken JSON"),
        (b'{"AccessKeyId": "geheim"}', "secretaccesskey is not"),
        (b'{"SecretAccessKey": 1}', "no access key"),
    ],
)
def test_what_it_may_not_print_is_not_repeated(tmp_path: Path, printed: bytes, words: str) -> None:
    (tmp_path / "key").write_bytes(printed)
    with pytest.raises(CredentialsError, match=words) as refusal:
        CommandProvider(f"cat {tmp_path}/key").find()
    assert "heim" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_command_that_fails_or_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CredentialsError, match="credential command sh ended with status 3"):
        CommandProvider("sh -c 'echo ID; echo geheim; echo geheim >&2; exit 3'").find()
    with pytest.raises(CredentialsError, match="/no/such/program can't be run: No such file"):
        CommandProvider("/no/such/program geheim").find()
    assert capfd.readouterr() == ("", "")


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    command = f"sh -c 'sleep 300 & echo $! > {tmp_path}/pid; wait'"
    with pytest.raises(CredentialsError, match=r"gave no key within 0.5 seconds"):
        CommandProvider(command, deadline_seconds=0.5).find()
    started = int((tmp_path / "pid").read_text())
    while is_running(started):  # the kill was sent; pytest's own timeout bounds the wait
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_command_has_nothing_to_read() -> None:
    with pytest.raises(CredentialsError, match="two lines"):
        CommandProvider("cat").find()  # ends at once, for its input is empty
