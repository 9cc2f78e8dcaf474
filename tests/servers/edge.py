"""HAProxy in front of an S3 server: TLS, distance, failures, and exact counts of the requests that went through."""

from __future__ import annotations

import csv
import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import trustme

from tests.servers.process import Daemon, free_port, is_listening, require_programs

# One backend per class: HAProxy counts requests per backend.
CLASSES = ("list", "get", "head", "put", "part", "copy", "partcopy", "post", "mdelete", "delete")
READY_SECONDS = 20

# `reject` closes the connection without an answer. One thread, so that `rand` and the counters are of one process.
CONFIGURATION = """\
global
  maxconn 4000
  nbthread 1
  stats socket {home}/stats.sock mode 600 level admin
  lua-load {home}/delay.lua
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
  option http-keep-alive
  http-reuse always
frontend edge
  bind 127.0.0.1:{http_port}
  bind 127.0.0.1:{https_port} ssl crt {home}/server.pem alpn http/1.1
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request lua.delay if {{ int({latency_ms}) gt 0 }}
  http-request reject if {{ rand(1000) lt {reset_permille} }}
  acl unlucky rand(1000) lt {fail_permille}
  http-request return status {fail_status} content-type application/xml string '{fail_body}' if unlucky
  acl list url_param(list-type) -m found
  acl list url_param(delimiter) -m found
  acl list url_param(marker) -m found
  acl part url_param(partNumber) -m found
  acl copysource req.hdr(x-amz-copy-source) -m found
  use_backend head if {{ method HEAD }}
  use_backend list if {{ method GET }} list
  use_backend get if {{ method GET }}
  use_backend partcopy if {{ method PUT }} part copysource
  use_backend part if {{ method PUT }} part
  use_backend copy if {{ method PUT }} copysource
  use_backend put if {{ method PUT }}
  use_backend mdelete if {{ method POST }} {{ query -m beg delete }}
  use_backend post if {{ method POST }}
  default_backend delete
"""
BACKEND = "backend {name}\n  server upstream {upstream} maxconn 1000\n"
DELAY = 'core.register_action("delay", {{"http-req"}}, function(txn) core.msleep({latency_ms}) end, 0)\n'
FAIL_BODY = """\
<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please slow down.</Message></Error>"""


class Edge:
    """An HAProxy on free ports of 127.0.0.1, for the time of a ``with`` block.

    The client signs for the Host that it talks to; the edge passes that header on unchanged.

    Attributes:
        http_url: ``http://127.0.0.1:PORT``.
        https_url: ``https://localhost:PORT``; the certificate also holds for 127.0.0.1.
        ca_bundle: PEM file of the authority, made for this edge, that signed the certificate.
    """

    def __init__(
        self,
        upstream: str,
        latency_ms: int = 0,
        fail_percent: float = 0,
        fail_status: int = 503,
        reset_percent: float = 0,
    ) -> None:
        """Describe the edge; entering the block starts it.

        Args:
            upstream: URL of the server behind it, ``http://HOST:PORT``.
            latency_ms: Wait before each request goes on.
            fail_percent: Share of requests that get an S3 error document instead of an answer.
            fail_status: HTTP status of those; the document's code is always SlowDown.
            reset_percent: Share of requests whose connection is closed without an answer.
        """
        http_port, self._https_port = free_port(), free_port()
        self.http_url = f"http://127.0.0.1:{http_port}"
        self.https_url = f"https://localhost:{self._https_port}"
        self._upstream = upstream.removeprefix("http://")
        self._latency_ms = latency_ms
        self._settings = {
            "http_port": http_port,
            "https_port": self._https_port,
            "latency_ms": latency_ms,
            "fail_permille": round(fail_percent * 10),
            "fail_status": fail_status,
            "fail_body": FAIL_BODY,
            "reset_permille": round(reset_percent * 10),
        }
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            ServerError: HAProxy is missing or did not start.
        """
        require_programs({"haproxy": "haproxy"})
        self._home = Path(tempfile.mkdtemp(prefix="spacesfs-edge-"))  # short: holds a unix socket
        self.ca_bundle = self._home / "ca.pem"
        with ExitStack() as stack:  # unwinds if the start fails
            stack.callback(shutil.rmtree, self._home, ignore_errors=True)
            self._write_files()
            self._start()
            stack.callback(self.cut)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cut(self) -> None:
        """Break every connection and refuse new ones, until `mend`; the counts are gone."""
        self._daemon.kill()

    def mend(self) -> None:
        """Serve again, on the same ports."""
        self._start()

    def counts(self) -> dict[str, int]:
        """Return the requests passed to the server since the start or `zero`, by class; failures made here not."""
        rows = csv.DictReader(self._ask("show stat").removeprefix("# ").splitlines())
        totals = {row["pxname"]: int(row["req_tot"]) for row in rows if row["svname"] == "BACKEND"}
        return {name: totals[name] for name in CLASSES}

    def zero(self) -> None:
        """Set all counts back to 0."""
        self._ask("clear counters all")

    def _start(self) -> None:
        command = ("haproxy", "-db", "-f", f"{self._home}/haproxy.cfg")
        self._daemon = Daemon(command, self._home / "haproxy.log")
        try:
            self._daemon.wait_until(lambda: is_listening(self._https_port), READY_SECONDS)
        except BaseException:
            self._daemon.kill()
            raise

    def _write_files(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_bundle)
        server = authority.issue_cert("localhost", "127.0.0.1", "*.spaces.localhost")
        server.private_key_and_cert_chain_pem.write_to_path(self._home / "server.pem")
        (self._home / "delay.lua").write_text(DELAY.format(latency_ms=self._latency_ms))
        configuration = CONFIGURATION.format(home=self._home, **self._settings)
        backends = "".join(BACKEND.format(name=name, upstream=self._upstream) for name in CLASSES)
        (self._home / "haproxy.cfg").write_text(configuration + backends)

    def _ask(self, command: str) -> str:
        """Send one command to HAProxy's own socket and return the reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(f"{self._home}/stats.sock")
            connection.sendall(f"{command}\n".encode())
            with connection.makefile() as reply:
                return reply.read()
