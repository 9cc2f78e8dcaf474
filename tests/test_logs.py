"""What a log line looks like, and what is never in one."""

from __future__ import annotations

import functools
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacesfs import logs
from spacesfs.client.errors import AccessDenied
from spacesfs.errors import errno_for
from spacesfs.logs import REPEAT_SECONDS, JsonFormatter, LineFormatter, hide_secret, one_line, scrub

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


RECORD_FIELDS = {"time", "level", "logger", "message"}
SPELLED = st.text("abcXYZ0189+/=~-_.:%&?#'\"\\ é", min_size=8, max_size=40)


def lower_percent(text: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quote(text, safe=""))


SPELLINGS: list[Callable[[str], str]] = [
    str,
    repr,
    json.dumps,
    lambda text: json.dumps(json.dumps(text)),
    lambda text: repr(text.encode()),
    lambda text: quote(text, safe=""),
    quote,
    quote_plus,
    lower_percent,
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    lambda text: f"https://user:{quote(text, safe='')}@proxy.example:3128/",
    lambda text: f"https://x.example/f?X-Amz-Security-Token={quote(text, safe='')}&X-Amz-Expires=60",
    lambda text: f"Authorization: AWS AK:{text}",
]


class Carrier:
    """An argument whose representation has the secret."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<Carrier {self.text}>"


def records(text: str) -> Iterator[logging.LogRecord]:
    """Yield records that hold a text in their message, in an argument, and in the causes of a failure."""
    make = functools.partial(logging.LogRecord, "spacesfs", logging.ERROR, "", 0)
    yield make(text.replace("%", "%%") + " %s", ("and more",), None)
    yield make(text, (), None)
    yield make("%d", (text,), None)  # which can't be written
    for argument in (text, Carrier(text), [text], {"key": Carrier(text)}):
        yield make("it was %s and %r", (argument, argument), None)
    try:
        try:
            raise KeyError(text)  # noqa: TRY301 - a chain is wanted
        except KeyError as cause:
            raise ValueError(f"with {text}") from cause
    except ValueError as error:
        yield make("it failed", (), (type(error), error, error.__traceback__))


def decoded(line: str) -> Iterator[str]:
    """Yield a line with the encodings undone that a reader would undo."""
    yield line
    for _ in range(3):
        line = unquote(line)
        yield line
        yield line.replace("+", " ")
        yield line.replace("\\\\", "\\").replace('\\"', '"').replace("\\'", "'")


@settings(deadline=None, max_examples=60)
@given(SPELLED, st.sampled_from(SPELLINGS))
def test_no_way_to_write_a_secret_gets_through(secret: str, spell: Callable[[str], str]) -> None:
    hide_secret(secret)
    try:
        for record in records(f"before {spell(secret)} after"):
            for formatter in (LineFormatter("%(message)s"), JsonFormatter()):
                line = formatter.format(record)
                assert not [found for found in decoded(line) if secret in found], line
                assert "[hidden]" in line or "not written" in line
    finally:
        logs._secrets.clear()  # noqa: SLF001 - the fixture clears it for each test, not for each example


@given(
    st.text("abcdef0123456789", min_size=64, max_size=64),
    st.sampled_from(
        [
            "https://x.example/f?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={}&X-Amz-Expires=9",
            "next=https%3A%2F%2Fx.example%2Ff%3FX-Amz-Signature%3D{}%26x",
            '{{"headers": {{"Authorization": "AWS4-HMAC-SHA256 Credential=AK/d/r/s3/aws4_request, Signature={}"}}}}',
            '"{{\\"Authorization\\": \\"Bearer {}\\"}}"',
            "proxy-authorization: Basic {}",
            "next=https%3A%2F%2Fx.example%2Ff%3FAWSAccessKeyId%3DAK%26Signature%3D{}%26Expires%3D1",
            "[(b'x-amz-security-token', b'{}')]",
            "X-Amz-Security-Token%3D{}",
            "https://name:{}@proxy.example:8080",
        ]
    ),
)
def test_what_signs_is_hidden_though_nobody_told_us_of_it(value: str, form: str) -> None:
    for record in records(form.format(value)):
        for formatter in (LineFormatter("%(message)s"), JsonFormatter()):
            assert value not in formatter.format(record)


class Kept(logging.Handler):
    """Keeps the messages that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def warning(text: str, level: int = logging.WARNING, request_id: str = "") -> logging.LogRecord:
    record = logging.LogRecord("spacesfs", level, "", 0, text, (), None)
    record.request_id = request_id
    return record


def test_a_warning_that_comes_again_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("spacesfs.logs.time.monotonic", lambda: now)
    kept = Kept()
    condenser = logs.Condenser(kept)
    for number in range(100):
        condenser.handle(warning(f"lost, request tx{number}", request_id=f"tx{number}"))
    condenser.handle(warning("other"))
    for _ in range(2):
        condenser.handle(warning("told", logging.INFO))
    assert kept.messages == ["lost, request tx0", "other", "told", "told"]
    now = REPEAT_SECONDS + 1
    condenser.handle(warning("lost, request tx100", request_id="tx100"))
    assert kept.messages[4:] == ["99 more since then: lost, request tx0", "lost, request tx100"]
    condenser.handle(warning("lost, request tx101", request_id="tx101"))
    condenser.close()
    assert kept.messages[6:] == ["1 more since then: lost, request tx100"]


def test_only_so_many_warnings_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_REPEATS", 2)
    kept = Kept()
    condenser = logs.Condenser(kept)
    for text in ("a", "a", "b", "c", "d", "a"):
        condenser.handle(warning(text))
    assert kept.messages == ["a", "b", "c", "1 more since then: a", "d", "a"]


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


def test_lines_as_json() -> None:
    [line] = logged('log_to_stderr("info", "json")').splitlines()
    fields = json.loads(line)
    assert fields.keys() == RECORD_FIELDS
    assert (fields["level"], fields["logger"]) == ("info", "spacesfs.fuse")
    assert fields["message"] == "mounted | on two lines"


def test_a_failed_request_has_its_id_in_a_field_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    errno_for(AccessDenied("PUT f: denied", request_id="tx42"))
    [record] = caplog.records
    fields = json.loads(JsonFormatter().format(record))
    assert (fields["request_id"], fields["errno"]) == ("tx42", "EACCES")


@pytest.mark.parametrize(("style", "begins"), [("text", "INFO spacesfs.fuse: mounted"), ("json", '{"time": ')])
def test_the_journal_is_told_how_grave_it_is(style: str, begins: str, tmp_path: Path) -> None:
    """A file stands where the journal's socket would be: what counts is that $JOURNAL_STREAM names it."""
    log, facts_of = tmp_path / "log", "f'{f.st_dev}:{f.st_ino}'"
    setup = f"os = __import__('os'); f = os.fstat(2); os.environ['JOURNAL_STREAM'] = {facts_of}; "
    script = LOG_LINES.format(setup=f"{setup}logs.log_to_stderr('info', '{style}')").replace("logs.os", "os")
    with log.open("w") as errors:
        subprocess.run([sys.executable, "-c", script], stderr=errors, check=True, timeout=30)
    assert log.read_text().startswith(f"<6>{begins}")


def test_what_nothing_caught_is_in_the_log_without_secrets() -> None:
    setup = (
        'log_to_stderr("error"); logs.log_uncaught(); logs.hide_secret("s3cr3t-value"); import threading; '
        'thread = threading.Thread(target=lambda: int("s3cr3t-value")); thread.start(); thread.join()'
    )
    [line] = logged(setup).splitlines()
    assert "a thread failed" in line
    assert "ValueError" in line
    assert "s3cr3t" not in line


def test_a_log_that_can_not_be_written_says_nothing_elsewhere() -> None:
    done = logged(
        'log_to_stderr("error"); logs.hide_secret("s3cr3t-value"); '
        'logging.getLogger().handlers[0]._target.stream = open("/dev/full", "w"); '
        'logging.getLogger().error("%s", "s3cr3t-value"); logging.getLogger().handlers[0]._target.stream = sys.stderr'
    )
    assert done == ""


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
