"""Logging: where records go, how a line looks, and the one place where secrets are taken out of them."""

from __future__ import annotations

import logging
import logging.handlers
import re
import socket
import sys
from pathlib import Path

SYSLOG_SOCKET = Path("/dev/log")

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SYSLOG_LINE = "spacesfs[%(process)d]: %(levelname)s %(name)s: %(message)s"  # syslog adds the time itself
_HIDDEN = "[hidden]"
_MAX_FILE_BYTES = 16 * 2**20
_SHORTEST_SECRET = 8  # characters; anything shorter would blank out ordinary words
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_CREDENTIALS = re.compile(
    r"""(?ix)
    (?: (["']?authorization["']? \s* [:=,] \s* b?["']?) [^\r\n"']+
      | (["']?x-amz-security-token["']? \s* [:=,] \s* b?["']?) [^\s&"',;)]+
      | (\b (?: x-amz-)? signature=) [^\s&"',;)]+
    )"""
)
_secrets: set[str] = set()


def hide_secret(secret: str) -> None:
    """Keep ``secret`` out of every log line from now on. Call it for each secret as soon as it is read."""
    if len(secret) >= _SHORTEST_SECRET:
        _secrets.add(secret)


def scrub(text: str) -> str:
    """Return ``text`` without the secrets we were told of, and without anything that signs a request."""
    for secret in _secrets:
        text = text.replace(secret, _HIDDEN)
    return _CREDENTIALS.sub(lambda match: (match[1] or match[2] or match[3]) + _HIDDEN, text)


def one_line(text: str) -> str:
    r"""Return ``text`` as one line in which nothing steers a terminal: line breaks become ``|``, the rest ``\x1b``."""
    joined = " | ".join(line for line in re.split(r"[\r\n]+", text) if line)
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], joined).encode("utf-8", "backslashreplace").decode()


class LineFormatter(logging.Formatter):
    """One record is one line, tracebacks included, with no secret in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        return one_line(scrub(super().format(record)))


def log_to_stderr(level: str) -> None:
    """Send records of ``level`` ("info") and above to standard error."""
    _install(logging.StreamHandler(sys.stderr), _LINE, level)


def log_to_file(path: Path, level: str) -> None:
    """Append records to a file that only its owner can read; it and its one predecessor never grow beyond 16 MiB each.

    Raises:
        OSError: The file can't be opened.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    _install(
        logging.handlers.RotatingFileHandler(path, maxBytes=_MAX_FILE_BYTES, backupCount=1, encoding="utf-8"),
        _LINE,
        level,
    )


def log_to_syslog(level: str) -> None:
    """Send records to the system log; where journald runs, it listens there.

    Raises:
        OSError: There is no system log.
    """
    handler = logging.handlers.SysLogHandler(str(SYSLOG_SOCKET), logging.handlers.SysLogHandler.LOG_DAEMON)
    handler.append_nul = False
    _install(handler, _SYSLOG_LINE, level)


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


def _install(handler: logging.Handler, line: str, level: str) -> None:
    """Make ``handler`` the only one."""
    handler.setFormatter(LineFormatter(line))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    set_level(level)
    logging.captureWarnings(capture=True)
