"""Serving one mount in this process, from start to end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from spacesfs.config import MountConfig
from spacesfs.logs import log_uncaught

if TYPE_CHECKING:
    from spacesfs.fuse.supervision import Supervision

log = logging.getLogger(__name__)


def load() -> None:
    """Import what serves. Takes most of the time in which a mount starts."""
    import spacesfs.fuse.session  # noqa: F401, PLC0415 - not before a background mount has forked


def serve_until_unmounted(
    config: MountConfig, supervision: Supervision, on_ready: Callable[[], None], on_notice: Callable[[str], None]
) -> None:
    """Serve a mount; return when it is unmounted and everything is in the Space.

    Args:
        config: What to mount, and where.
        supervision: Who watches over this process.
        on_ready: Called when the mount answers.
        on_notice: Told what the user should know meanwhile, a line at a time; the log has it too.

    Raises:
        MountError: The mount can't start or go on, or left work behind.
    """
    import trio  # noqa: PLC0415 - not before a background mount has forked

    from spacesfs.fuse.session import serve  # noqa: PLC0415

    def say_ready() -> None:
        log.info("%s is mounted on %s", config.bucket, config.mountpoint)
        on_ready()

    def tell(line: str) -> None:
        log.info("%s", line)
        on_notice(line)

    log_uncaught()
    trio.run(partial(serve, config, supervision, on_ready=say_ready, tell=tell))
    log.info("%s is unmounted from %s; everything is in the Space", config.bucket, config.mountpoint)
