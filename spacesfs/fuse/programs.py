"""What programs that help us get to see: fusermount3, unshare, journalctl and the like."""

from __future__ import annotations

import os

_NEEDED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
_READ_LATER = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "OPENSSL_MODULES"),  # by OpenSSL
    *("RES_OPTIONS", "LOCALDOMAIN", "HOSTALIASES"),  # by glibc, when it looks up a host
)


def bare_environment() -> dict[str, str]:
    """Return of our environment what such a program needs. The keys that may be in ours are not among it."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}


def hide_environment() -> None:
    """Leave libraries in C, and what they start, only what they need of our environment; `os.environ` stays whole.

    For libfuse, which gives fusermount3 all that there is. To be called before there are threads.
    """
    for name in set(os.environ).difference(_NEEDED, _READ_LATER):
        os.unsetenv(name)
