"""What a mount asks of the operating system for its own process."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys

from spacesfs.fuse.programs import hide_environment

_SWITCH_SECONDS = 0.0005
_M_MMAP_THRESHOLD = -3  # <malloc.h>
_M_ARENA_MAX = -8
_LARGE_BYTES = 256 << 10


def prepare_process() -> None:
    """Keep secrets out of core files and from children, have room for many open files, give freed memory back at once.

    Modules live as long as the process: the garbage collector need not look through them again and again.

    glibc otherwise raises its limit for separate mappings to 32 MiB by itself, and then parts and pages of some MiB
    leave holes in the heap: twice the memory in use was seen. Where there is no mallopt, memory stays as it is.

    The journal's thread gets its turn sooner than Python gives it by default, 5 ms: programs wait for it.
    """
    hide_environment()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, 2)
