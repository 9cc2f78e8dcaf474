"""A mount in the background: a supervisor is forked, which forks who serves; the caller leaves when the mount answers.

The one that serves tells through a pipe how its start goes: lines to show, which begin with ``+``, then ``ready``, or
the line that the caller shall end with. When it dies without a word the supervisor ends too and the pipe closes, so
nobody waits in vain.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from functools import partial
from typing import NoReturn, TextIO

from spacesfs.cli.failures import explain
from spacesfs.cli.output import say
from spacesfs.cli.serve import load, serve_until_unmounted
from spacesfs.cli.supervisor import CRASHED, Lifeline, Supervisor, leave_session
from spacesfs.config import MountConfig
from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import answers
from spacesfs.logs import has_syslog, log_to_file, log_to_syslog, one_line, scrub

log = logging.getLogger(__name__)

_READY = "ready"
_NOTICE = "+"
_SYSTEM_LOG = "the system log"


def serve_in_background(config: MountConfig) -> None:
    """Start the mount's process; return when the mount answers, with one line that says so.

    Raises:
        MountError: The mount did not come up; its process is gone.
    """
    log_name = _log(config)  # before the fork: what is wrong with it is the caller's to know
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _serve_detached(config, os.fdopen(writer, "w", encoding="utf-8", errors="replace"))
    os.close(writer)
    try:
        outcome = _read_outcome(reader)
        if outcome == _READY and not answers(config.mountpoint):
            outcome = f"the mount on {config.mountpoint} does not answer; see {log_name}"
    except KeyboardInterrupt:
        _stop(pid)
        raise
    if outcome != _READY:
        _stop(pid)
        raise MountError(outcome or f"the mount's process died while it started; see {log_name}")
    say(f"{config.bucket} is mounted on {config.mountpoint}")
    if config.log_file is None and log_name != _SYSTEM_LOG:
        say(f"This host has no system log; the mount logs to {log_name}")


def _log(config: MountConfig) -> str:
    """Send log records where a background process can; return where that is."""
    if config.log_file is not None:
        log_to_file(config.log_file, config.log_level, config.log_format)
        return str(config.log_file)
    if has_syslog():
        log_to_syslog(config.log_level, config.log_format)
        return _SYSTEM_LOG
    path = config.state_dir / "log" / f"{config.bucket}.log"
    log_to_file(path, config.log_level, config.log_format)
    return str(path)


def _read_outcome(reader: int) -> str:
    """Show the child's notices as they come; return how its start went, empty if it died."""
    with os.fdopen(reader, encoding="utf-8", errors="replace") as report:
        for line in report:
            if not line.startswith(_NOTICE):
                return line.rstrip("\n")
            say(line.removeprefix(_NOTICE).rstrip("\n"))
    return ""


def _stop(pid: int) -> None:
    """End the child, should it still run, and wait for it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def _serve_detached(config: MountConfig, report: TextIO) -> NoReturn:
    """Be the supervisor: leave the terminal, see the mount served, and end without running what the caller would."""
    status = 1
    try:
        os.chdir("/")
        _close_terminal()
        supervisor = Supervisor(
            config.mountpoint, config.hang_timeout, partial(_log, config), partial(_serve, config, report), load
        )
        status = supervisor.run()
    except Exception:  # nobody is above it: what it does not log is lost
        log.exception("the supervisor of the mount on %s failed", config.mountpoint)
    finally:
        logging.shutdown()
        os._exit(status)


def _serve(config: MountConfig, report: TextIO, lifeline: Lifeline, replaces: str | None) -> int:
    """Be the one that serves; return the exit status."""
    from spacesfs.fuse.supervision import Supervision  # noqa: PLC0415 - not before the fork: it loads the event loop

    def ready() -> None:
        leave_session()
        lifeline.ready()
        _tell(report, _READY)

    supervision = Supervision(lifeline.beat, os.getppid(), replaces)
    try:
        serve_until_unmounted(config, supervision, ready, partial(_show, report))
    except MountError as error:
        log.error("%s", error)  # noqa: TRY400 - expected, and the line says it all
        _tell(report, str(error))
        return 1
    except Exception as error:
        log.exception("the mount crashed")
        _tell(report, explain(error).message)
        return CRASHED
    finally:
        logging.shutdown()
    return 0


def _tell(report: TextIO, outcome: str) -> None:
    """Send the outcome to the parent and close the pipe; once told, later outcomes are the log's."""
    if report.closed:
        return
    with suppress(OSError), report:
        report.write(f"{one_line(scrub(outcome))}\n")


def _show(report: TextIO, notice: str) -> None:
    """Send the parent, as long as it waits, what the user should know."""
    if not report.closed:
        with suppress(OSError):
            report.write(f"{_NOTICE}{one_line(scrub(notice))}\n")
            report.flush()


def _close_terminal() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
