"""``spacesfs mount``: check everything that can be checked, then serve, here or in the background."""

from __future__ import annotations

import os

import click

from spacesfs.cli.background import serve_in_background
from spacesfs.cli.fstab import environment_file_of, parse_mount_options, read_environment_file
from spacesfs.cli.layers import collect
from spacesfs.cli.options import mount_options
from spacesfs.cli.output import say
from spacesfs.cli.paths import complete_path, resolved, split_space
from spacesfs.cli.serve import serve_until_unmounted
from spacesfs.config import MountConfig
from spacesfs.fuse.mountpoint import check_mountpoint, is_dead
from spacesfs.logs import log_to_file, log_to_stderr


@click.command()
@click.argument("space", metavar="BUCKET[:PREFIX]")
@click.argument("mountpoint", shell_complete=complete_path)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to standard error.")
@click.option("-o", "texts", metavar="OPTION[=VALUE],...", multiple=True, help="Options as in fstab; flags win.")
@click.option("--check", is_flag=True, help="Check options and mountpoint, and do no more.")
@click.option("--sloppy", is_flag=True, hidden=True, help="Leave out what -o holds and we do not know.")
@mount_options
def mount(
    space: str, mountpoint: str, *, foreground: bool, texts: tuple[str, ...], check: bool, sloppy: bool, **flags: object
) -> None:
    """Mount a Space on the directory MOUNTPOINT. Returns when the mount answers, and serves from the background."""
    bucket, prefix = split_space(space)
    written = parse_mount_options(texts, is_sloppy=sloppy)
    environment_file = written.environment_file or (environment_file_of(bucket) if texts else None)
    if environment_file is not None:
        os.environ.update(read_environment_file(environment_file))
    given = {**written.flags, **{name: value for name, value in flags.items() if value is not None}}
    config = collect(given, bucket).check(MountConfig, bucket=bucket, prefix=prefix, mountpoint=resolved(mountpoint))
    check_mountpoint(config.mountpoint, allow_other=config.allow_other)
    if check:
        return
    if is_dead(config.mountpoint):
        say(f"recovering {config.mountpoint}: a stale mount, left by a process that died, is there")
    os.umask(0o077)  # caches, state and logs are their owner's alone
    if foreground:
        _serve_in_foreground(config)
    else:
        serve_in_background(config)


def _serve_in_foreground(config: MountConfig) -> None:
    """Serve until unmounted or told to stop.

    Raises:
        MountError: The mount can't start or go on, or left work behind.
    """
    from spacesfs.fuse.supervision import by_service_manager  # noqa: PLC0415 - it loads the event loop

    supervision = by_service_manager(os.environ)
    if config.log_file is not None:
        log_to_file(config.log_file, config.log_level, config.log_format)
        serve_until_unmounted(config, supervision, on_ready=lambda: None, on_notice=say)
    else:
        log_to_stderr(
            config.log_level, config.log_format
        )  # which is on the terminal, so notices need not be shown again
        serve_until_unmounted(config, supervision, on_ready=lambda: None, on_notice=lambda _: None)
