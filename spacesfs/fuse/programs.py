"""What programs that help us get to see: fusermount3, unshare, journalctl and the like."""

from __future__ import annotations

import os

_NEEDED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")


def bare_environment() -> dict[str, str]:
    """Return of our environment what such a program needs. The keys that may be in ours are not among it."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}
