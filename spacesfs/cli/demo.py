"""``spacesfs demo``: a Space without an account: an S3 server in this process, a bucket, and a real mount of it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import click

from spacesfs.cli.client import daemon_pid
from spacesfs.cli.demo_server import BUCKET, demo_server
from spacesfs.cli.output import complain, say
from spacesfs.cli.paths import resolved
from spacesfs.cli.umount import unmount_space
from spacesfs.config import ENVIRONMENT_PREFIX
from spacesfs.errors import MountError
from spacesfs.fuse.mountpoint import mounted_at, recover_stale_mount
from spacesfs.fuse.sockets import find_socket

_TERMINATED = 128 + signal.SIGTERM
_NOT_FOUND = 127  # as shells say it
_POLL_SECONDS = 0.05
_STOP_SECONDS = 30.0
_GREETING = "Hello from this computer.\n"


class _CommandAfterDashes(click.Command):
    """Keeps what follows ``--`` apart; click would take its first word for the mountpoint."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        dashes = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:dashes])
        ctx.params["command"] = tuple(args[dashes + 1 :])
        return rest


@click.command(cls=_CommandAfterDashes, options_metavar="[MOUNTPOINT] [-- COMMAND...]")
@click.argument("mountpoint", required=False, metavar="")
@click.pass_context
def demo(ctx: click.Context, mountpoint: str | None, command: Sequence[str]) -> None:
    """Try spacesfs without an account: mount a bucket of a server that lives as long as this command.

    Runs COMMAND in the mount and passes its exit status on. Without COMMAND, the mount stays until Ctrl-C; where there
    is no terminal, it shows a short tour instead. Afterwards everything is removed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    with ExitStack() as stack:
        endpoint = stack.enter_context(demo_server())
        work = Path(stack.enter_context(TemporaryDirectory(prefix="spacesfs-demo-", ignore_cleanup_errors=True)))
        place = stack.enter_context(_directory(resolved(mountpoint) if mountpoint else work / "space"))
        stack.enter_context(_mounted(place, endpoint, work))
        if command:
            ctx.exit(_run(command, place))
        elif sys.stdin.isatty() and sys.stdout.isatty():
            _wait_for_interrupt(place)
        else:
            _tour(place, work)


@contextmanager
def _directory(path: Path) -> Iterator[Path]:
    """Make a directory for the time of the demo, unless it is there."""
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    finally:
        if is_new:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def _mounted(mountpoint: Path, endpoint: str, work: Path) -> Iterator[None]:
    """Mount the demo's bucket with cache, state and log in ``work``.

    The mount stays our child in the foreground, so that it ends with us whenever we are interrupted, but in a session
    of its own, so that Ctrl-C leaves that to us.

    Raises:
        MountError: It can't be mounted.
    """
    places = [f"--cache-dir={work / 'cache'}", f"--state-dir={work / 'state'}", f"--log-file={work / 'log'}"]
    command = [
        sys.executable,
        "-m",
        "spacesfs",
        "mount",
        "-f",
        BUCKET,
        str(mountpoint),
        f"--endpoint={endpoint}",
        *places,
    ]
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            command, env=_environment(work), cwd=work, stdout=errors, stderr=errors, start_new_session=True
        )
        try:
            if not _is_serving(process, mountpoint):
                errors.seek(0)
                raise MountError(errors.read().decode(errors="replace").strip().removeprefix("spacesfs: "))
            say(f"{BUCKET} is mounted on {mountpoint}")
            yield
        finally:
            _stop(process, mountpoint)


def _is_serving(process: subprocess.Popen[bytes], mountpoint: Path) -> bool:
    """Wait until the process serves the mountpoint; return False if it ends first."""
    while process.poll() is None:
        with suppress(MountError):
            if (control := find_socket(mountpoint)) is not None and daemon_pid(control) == process.pid:
                return True
        time.sleep(_POLL_SECONDS)
    return False


def _stop(process: subprocess.Popen[bytes], mountpoint: Path) -> None:
    """Unmount; when that can't be done in order, do it by force: nothing in a demo is worth staying for."""
    try:
        if process.poll() is None and mounted_at(mountpoint) is not None:
            unmount_space(mountpoint)
    except MountError as error:
        complain(f"{error}; the demo ends anyway")
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    with suppress(MountError):
        recover_stale_mount(mountpoint)


def _environment(work: Path) -> dict[str, str]:
    """Return our environment with the demo's access key and without the user's options."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    key = {"SPACES_ACCESS_KEY_ID": "demo-access-key", "SPACES_SECRET_ACCESS_KEY": "demo-secret-key"}
    return own | key | {"XDG_CONFIG_HOME": str(work / "config")}


def _run(command: Sequence[str], directory: Path) -> int:
    """Run a command in the mount; return its exit status as a shell would. Ctrl-C is the command's business."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.run(list(command), cwd=directory, env=_with_our_command(), check=False).returncode
    except (FileNotFoundError, PermissionError) as error:
        complain(f"{command[0]}: {error.strerror}")
        return _NOT_FOUND
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def _with_our_command() -> dict[str, str]:
    """Return our environment with ``spacesfs`` on the PATH, also when its virtual environment is not active."""
    ours = os.path.dirname(sys.executable)
    return dict(os.environ) | {"PATH": f"{ours}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _wait_for_interrupt(mountpoint: Path) -> None:
    say(f"Look around in another terminal: ls -l {shlex.quote(str(mountpoint))}. Ctrl-C ends the demo.")
    with suppress(KeyboardInterrupt):
        signal.pause()
    say("")


def _tour(mountpoint: Path, work: Path) -> None:
    """Show everyday work in the mount, as it would look in a shell.

    Raises:
        MountError: A step failed.
    """
    source = work / "hello.txt"
    source.write_text(_GREETING, encoding="utf-8")
    steps = (
        "ls -l",
        f"cp {source} .",
        "mkdir trip",
        "cp hello.txt trip/",
        "ls -lR",
        "cat trip/hello.txt",
        "spacesfs sync .",
        "spacesfs status .",
    )
    for step in steps:
        say(f"$ {step}")
        sys.stdout.flush()
        done = subprocess.run(["/bin/sh", "-c", step], cwd=mountpoint, env=_with_our_command(), check=False)
        if done.returncode != 0:
            raise MountError(f"`{step}` failed with exit status {done.returncode}")
