"""What a log line looks like, and what is never in one."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacesfs import logs
from spacesfs.logs import LineFormatter, hide_secret, one_line, scrub

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SIGNATURE = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"


@pytest.fixture(autouse=True)
def no_secrets_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://x.example/f?X-Amz-Expires=60&X-Amz-Signature={SIGNATURE}",
        f"https://x.example/f?AWSAccessKeyId=AK&Signature={SIGNATURE}&Expires=1",
        f"Authorization: AWS4-HMAC-SHA256 Credential=AK/20130524/x/s3/aws4_request, Signature={SIGNATURE}",
        f"headers [(b'Authorization', b'AWS AK:{SIGNATURE}')]",
        f"{{'authorization': 'AWS4-HMAC-SHA256 SignedHeaders=host, Signature={SIGNATURE}'}}",
        f"X-Amz-Security-Token: {SIGNATURE}",
    ],
)
def test_nothing_that_signs_a_request_is_logged(text: str) -> None:
    assert SIGNATURE not in scrub(text)
    assert "[hidden]" in scrub(text)


def test_what_only_looks_alike_stays() -> None:
    text = "the signature is wrong; authorization failed for my-bucket"
    assert scrub(text) == text


def test_a_secret_is_hidden_wherever_it_stands() -> None:
    hide_secret(SECRET)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int(SECRET)
    failure = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("spacesfs", logging.ERROR, "", 0, "it was %s", (SECRET,), failure)
    line = LineFormatter("%(message)s").format(record)
    assert SECRET not in line
    assert "it was [hidden]" in line
    assert "ValueError: invalid literal for int() with base 10: '[hidden]'" in line
    assert "\n" not in line


@given(st.text())
def test_no_text_makes_a_second_line_or_steers_the_terminal(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in line)
    line.encode()


def test_bytes_that_are_no_text_can_be_printed() -> None:
    assert one_line("a\udcffb") == "a\\udcffb"
    assert one_line("\x1b[31mred\u202e\r\nnext") == "\\x1b[31mred\\u202e | next"


LOG_LINES = """
import logging, pathlib, sys
from spacesfs import logs
logs.{setup}
logging.getLogger("httpx").info("HTTP Request: GET https://example.com")
logging.getLogger("spacesfs.fuse").info("mounted\\non two lines")
logging.getLogger("spacesfs.fuse").debug("details")
"""


def logged(setup: str, *arguments: str) -> str:
    """Run the lines in a process of its own, for logging is set up per process; return its standard error."""
    command = [sys.executable, "-c", LOG_LINES.format(setup=setup), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stderr


def test_lines_on_standard_error() -> None:
    [line] = logged('log_to_stderr("info")').splitlines()
    assert line.endswith(" INFO spacesfs.fuse: mounted | on two lines")


def test_lines_in_a_file_that_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log"
    logged('log_to_file(pathlib.Path(sys.argv[1]), "debug")', str(path))
    assert path.read_text().count("\n") == 2
    assert path.stat().st_mode & 0o077 == 0


def test_lines_in_the_system_log(tmp_path: Path) -> None:
    """A socket of our own stands where the system log's would be."""
    import socket

    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system_log:
        system_log.bind(str(path))
        system_log.settimeout(30)
        setup = 'SYSLOG_SOCKET = pathlib.Path(sys.argv[1]); assert logs.has_syslog(); logs.log_to_syslog("info")'
        logged(setup, str(path))
        received = system_log.recv(4096).decode()
    assert received.startswith("<30>spacesfs[")  # daemon facility, level info
    assert received.endswith("]: INFO spacesfs.fuse: mounted | on two lines")
