"""A TCP forwarder that counts what comes back and can be shut: connections stay open, and nothing passes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

PIECE_BYTES = 65_536


class Gate:
    """A forwarder on a free port of 127.0.0.1 to a plain http server, for the time of a ``with`` block.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        received_bytes: What the server sent through it so far, heads of replies included.
        shuts_after_bytes: When it shuts by itself: once it has received so much; None for never.
    """

    def __init__(self, upstream: str, bytes_per_second: int | None = None) -> None:
        """Describe it; ``upstream`` is the server's URL, ``bytes_per_second`` what each connection brings at most."""
        self._bytes_per_second = bytes_per_second
        url = urlsplit(upstream)
        self._upstream = (url.hostname or "", url.port or 80)
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.received_bytes = 0
        self.shuts_after_bytes: int | None = None

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        for end in (self._listener, *self._sockets):
            with suppress(OSError):  # closed by the other side already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def shut(self) -> None:
        """Let nothing pass any more, in either direction, until `reopen`."""
        self._open.clear()

    def reopen(self) -> None:
        """Let everything pass again, what was held first."""
        self._open.set()

    def cut(self) -> None:
        """Break every connection there is; new ones pass."""
        with self._lock:
            ends, self._sockets = self._sockets, []
        for end in ends:
            with suppress(OSError):  # closed already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the block ended
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._upstream)
                with self._lock:
                    self._sockets += [client, server]
                self._start(self._forward, client, server, False)
                self._start(self._forward, server, client, True)

    def _forward(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        with suppress(OSError):  # one side is gone: the other learns it below
            while piece := source.recv(PIECE_BYTES):
                self._open.wait()
                target.sendall(piece)
                if is_reply:
                    with self._lock:
                        self.received_bytes += len(piece)
                        if self.shuts_after_bytes is not None and self.received_bytes >= self.shuts_after_bytes:
                            self.shut()
                    if self._bytes_per_second is not None:
                        time.sleep(len(piece) / self._bytes_per_second)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    @staticmethod
    def _start(function: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()
