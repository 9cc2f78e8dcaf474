"""Logging: where records go, how a line looks, and the one place where secrets are taken out of them."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import re
import socket
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType

SYSLOG_SOCKET = Path("/dev/log")
REPEAT_SECONDS = 60.0  # how long a warning is not said again
TEXT, JSON = "text", "json"

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_JOURNAL_LINE = "%(levelname)s %(name)s: %(message)s"  # the journal adds the time itself
_SYSLOG_PREFIX = "spacesfs[{process}]: "
_FIELDS = ("request_id", "errno")  # what a record may carry beside its message
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # sd-daemon(3)
_STANDARD_ERROR = 2
_HIDDEN = "[hidden]"
_MAX_FILE_BYTES = 16 * 2**20
_MAX_REPEATS = 1000  # different warnings that are counted at once
_SHORTEST_SECRET = 8  # characters; anything shorter would blank out ordinary words
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_VALUE = r"""[^\s&"',;)\\]+"""
_CREDENTIALS = re.compile(
    rf"""(?ix)
    ( authorization \\*["']? (?: \s* [:=,] \s* | %3A(?:%20|\+)* ) b?\\*["']? ) [^\r\n"'\\]+
    | ( x-amz-security-token \\*["']? (?: \s* [:=,] \s* | %3[AD](?:%20)* ) b?\\*["']? ) {_VALUE}
    | ( (?: signature | credential | awsaccesskeyid ) (?: = | %3D ) ) {_VALUE}
    | ( \b aws \s [a-z0-9]{{3,}} : ) [a-z0-9+/]{{27}}=
    | ( [a-z] :// [^/\s:@]* : ) [^/\s@]+ (?= @ )
    """
)
_secrets: set[str] = set()


def hide_secret(secret: str) -> None:
    """Keep ``secret`` out of every log line from now on. Call it for each secret as soon as it is read."""
    if len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def scrub(text: str) -> str:
    """Return ``text`` without the secrets we were told of, and without anything that signs a request."""
    for secret in sorted(_secrets, key=len, reverse=True):  # one may hold another
        text = _spellings(secret).sub(_HIDDEN, text)
    return _CREDENTIALS.sub(lambda match: str(match[match.lastindex or 0]) + _HIDDEN, text)


@cache
def _spellings(secret: str) -> re.Pattern[str]:
    """Match a secret as it is, percent-encoded however often, and with the escapes of Python and JSON."""
    return re.compile("".join(map(_spelling, secret)))


def _spelling(character: str) -> str:
    encoded = character.encode("utf-8", "surrogateescape")
    percent = "".join(f"%(?:25)*(?i:{byte:02x})" for byte in encoded)
    in_bytes = "".join(rf"\\+x(?i:{byte:02x})" for byte in encoded)
    escaped = rf"\\+(?:{re.escape(character)}|(?i:u{ord(character):04x}|x{ord(character):02x}))"
    return f"(?:{re.escape(character)}|{percent}|{in_bytes}|{escaped}{'|[+]' if character == ' ' else ''})"


def one_line(text: str) -> str:
    r"""Return ``text`` as one line in which nothing steers a terminal: line breaks become ``|``, the rest ``\x1b``."""
    joined = " | ".join(line for line in re.split(r"[\r\n]+", text) if line)
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], joined).encode("utf-8", "backslashreplace").decode()


class LineFormatter(logging.Formatter):
    """One record is one line, tracebacks included, with no secret in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record. One that can't be written says so: its arguments may hold anything."""
        try:
            text = super().format(record)
        except Exception as error:  # noqa: BLE001 - of whatever was to be logged
            text = f"{record.levelname} {record.name}: {record.msg} (not written: {type(error).__name__})"
        return one_line(scrub(text))


class JsonFormatter(logging.Formatter):
    """One record is one JSON object in ASCII, with no secret in it; a traceback is one text with its line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {"time": moment.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name}
        fields["message"] = one_line(scrub(_message(record)))
        fields |= {name: one_line(scrub(str(found))) for name in _FIELDS if (found := getattr(record, name, ""))}
        if record.exc_info:
            lines = scrub(self.formatException(record.exc_info)).splitlines()
            fields["traceback"] = "\n".join(map(one_line, lines))
        return json.dumps(fields)


class PrefixFormatter(logging.Formatter):
    """Puts before a line what a log daemon wants there: ``<4>`` for the journal, or a program and its process."""

    def __init__(self, inner: logging.Formatter, prefix: str) -> None:
        super().__init__()
        self._inner, self._prefix = inner, prefix

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        priority = _PRIORITIES.get(record.levelname, 6)
        return self._prefix.format(priority=priority, process=record.process) + self._inner.format(record)


@dataclass(slots=True)
class _Repeat:
    """A warning that was said at ``since``, in seconds of the monotonic clock, and came ``count`` times after."""

    record: logging.LogRecord
    since: float
    count: int = 0


class Condenser(logging.Handler):
    """Hands records on to another handler, but a warning or error that came within the last minute only counted.

    How often is said when the minute is over, with the next record, and at the end.
    """

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._repeats: OrderedDict[tuple[str, int, str], _Repeat] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on, or count it."""
        now = time.monotonic()
        self._say_counts(now - REPEAT_SECONDS, _MAX_REPEATS)
        if record.levelno >= logging.WARNING:
            known = self._repeats.get(identity := _identity(record))
            if known is not None:
                known.count += 1
                return
            self._repeats[identity] = _Repeat(record, now)
        self._target.handle(record)

    def close(self) -> None:
        """Say what was counted, and close the target."""
        self.acquire()
        try:
            self._say_counts(float("inf"), 0)
        finally:
            self.release()
        self._target.close()
        super().close()

    def flush(self) -> None:
        """Bring what the target has to where it goes."""
        self._target.flush()

    def _say_counts(self, until: float, most: int) -> None:
        """Forget the warnings said before ``until``, and the oldest above ``most``; say how often each came again."""
        while self._repeats:
            identity, repeat = next(iter(self._repeats.items()))
            if repeat.since > until and len(self._repeats) <= most:
                return
            del self._repeats[identity]
            if repeat.count:
                self._target.handle(_summary(repeat))


def _identity(record: logging.LogRecord) -> tuple[str, int, str]:
    """Return what makes two records the same: all but the id of the request."""
    message = _message(record)
    request_id = getattr(record, "request_id", "")
    failure = record.exc_info[1] if record.exc_info else None
    written = message.replace(request_id, "") if request_id else message
    return record.name, record.levelno, written if failure is None else f"{written} {type(failure)} {failure}"


def _summary(repeat: _Repeat) -> logging.LogRecord:
    told = repeat.record
    message = f"{repeat.count} more since then: {_message(told)}"
    return logging.LogRecord(told.name, told.levelno, told.pathname, told.lineno, message, (), None)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - of whatever was to be logged
        return f"{record.msg} (not written: {type(error).__name__})"


def log_to_stderr(level: str, style: str = TEXT) -> None:
    """Send records of ``level`` ("info") and above to standard error, with priorities if that is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    if is_journal(_STANDARD_ERROR):
        handler.setFormatter(PrefixFormatter(_formatter(style, _JOURNAL_LINE), "<{priority}>"))
    else:
        handler.setFormatter(_formatter(style, _LINE))
    _install(handler, level)


def log_to_file(path: Path, level: str, style: str = TEXT) -> None:
    """Append records to a file that only its owner can read; it and its one predecessor never grow beyond 16 MiB each.

    Raises:
        OSError: The file can't be opened.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_MAX_FILE_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(_formatter(style, _LINE))
    _install(handler, level)


def log_to_syslog(level: str, style: str = TEXT) -> None:
    """Send records to the system log; where journald runs, it listens there.

    Raises:
        OSError: There is no system log.
    """
    handler = logging.handlers.SysLogHandler(str(SYSLOG_SOCKET), logging.handlers.SysLogHandler.LOG_DAEMON)
    handler.append_nul = False
    handler.setFormatter(PrefixFormatter(_formatter(style, _JOURNAL_LINE), _SYSLOG_PREFIX))
    _install(handler, level)


def is_journal(descriptor: int) -> bool:
    """Tell whether what is written to a descriptor goes to systemd's journal; systemd.exec(5), $JOURNAL_STREAM."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        facts = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(facts.st_dev), str(facts.st_ino))


def log_uncaught() -> None:
    """Have the log, and not bare standard error, tell of what nothing caught: in threads, and in finalizers."""
    log = logging.getLogger(__name__)

    def tell(what: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            log.error("%s failed", what, exc_info=(kind, error, trace))

    threading.excepthook = lambda args: tell("a thread", args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: tell("a finalizer", args.exc_type, args.exc_value, args.exc_traceback)


def set_level(level: str) -> None:
    """Log records of ``level`` ("info") and above from now on."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore"):  # they log every request's URL; only their warnings are of interest
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def level() -> str:
    """Return the level from which on records are logged now."""
    return logging.getLevelName(logging.getLogger().level).lower()


def has_syslog() -> bool:
    """Tell whether a system log listens on this host."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(SYSLOG_SOCKET))
        except OSError:
            return False
    return True


def _formatter(style: str, line: str) -> logging.Formatter:
    return JsonFormatter() if style == JSON else LineFormatter(line)


def _install(handler: logging.Handler, level: str) -> None:
    """Make ``handler`` the only one.

    When it can't write, nothing is said elsewhere: Python would print the record, arguments and all, as it is.
    """
    logging.raiseExceptions = False
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(Condenser(handler))
    set_level(level)
    logging.captureWarnings(capture=True)
