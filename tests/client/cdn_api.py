"""DigitalOcean's API for CDN endpoints as its documentation describes it, with its limits, on a free port."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio

from tests.client.scripted import Answer, Request, ScriptedServer, Step, _read_request

TOKEN = "dop_v1_never-to-be-seen-in-a-message"
TTLS = {60, 600, 3600, 86_400, 604_800}
PURGE_SECONDS = 1.0


class CdnApi(ScriptedServer):
    """The endpoints of one account. Time is trio's, so that tests need not wait.

    Attributes:
        endpoints: By id.
        purged: Every name that was purged, in order.
        ahead: Answers to give before any other, for faults.
        refused: How often a limit was exceeded.
    """

    def __init__(self) -> None:
        super().__init__(())
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.purged: list[str] = []
        self.ahead: list[Step] = []
        self.refused = 0
        self._calls: list[float] = []
        self._files: list[float] = []
        self._purging: set[str] = set()

    async def serve(self, stream: trio.SocketStream) -> None:
        request = await _read_request(stream)
        if request is None:
            return
        self.requests.append(request)
        step = self.ahead.pop(0) if self.ahead else await self._answer(request)
        if isinstance(step, Answer):
            await stream.send_all(step.encode())
        await stream.aclose()

    def add(self, origin: str, **settings: object) -> str:
        """Make an endpoint; return its id."""
        made = str(uuid.uuid4())
        self.endpoints[made] = {
            "id": made,
            "origin": origin,
            "endpoint": origin.replace(".digitaloceanspaces", ".cdn.digitaloceanspaces"),
            "created_at": "2026-11-22T07:12:09Z",
            "ttl": 3600,
            **settings,
        }
        return made

    async def _answer(self, request: Request) -> Answer:
        url = urlsplit(request.target)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(401, "unauthorized", "Unable to authenticate you")
        if not self._admit(self._calls, 1, 5, 10):
            return problem(429, "too_many_requests", "API Rate limit exceeded.", {"retry-after": "10"})
        parts = url.path.removeprefix("/v2/cdn/endpoints").strip("/").split("/")
        body = json.loads(request.body or b"null")
        if parts == [""]:
            return self._list(parse_qs(url.query)) if request.method == "GET" else self._create(body)
        if parts[0] not in self.endpoints:
            return problem(404, "not_found", "The resource you requested could not be found.")
        if parts[1:] == ["cache"]:
            return await self._purge(parts[0], body["files"])
        return self._one(request.method, parts[0], body)

    def _list(self, query: dict[str, list[str]]) -> Answer:
        page, size = int(query.get("page", ["1"])[0]), int(query.get("per_page", ["20"])[0])
        every = list(self.endpoints.values())
        shown = every[(page - 1) * size : page * size]
        pages = {"next": "…"} if page * size < len(every) else {}
        return reply(200, {"endpoints": shown, "links": {"pages": pages}, "meta": {"total": len(every)}})

    def _create(self, body: dict[str, Any]) -> Answer:
        if body.get("ttl", 3600) not in TTLS or any(e["origin"] == body["origin"] for e in self.endpoints.values()):
            return problem(422, "unprocessable_entity", "the endpoint can't be made")
        return reply(201, {"endpoint": self.endpoints[self.add(**body)]})

    def _one(self, method: str, endpoint: str, body: dict[str, Any] | None) -> Answer:
        if method == "DELETE":
            del self.endpoints[endpoint]
            return Answer(204)
        self.endpoints[endpoint] |= body or {}
        return reply(200, {"endpoint": self.endpoints[endpoint]})

    async def _purge(self, endpoint: str, files: list[str]) -> Answer:
        what = f"{endpoint} {files}"
        if what in self._purging:
            return problem(400, "bad_request", "this purge is under way")
        if not self._admit(self._files, len(files), 50, 20):
            return problem(429, "too_many_requests", "too many files", {"ratelimit-remaining": "0"})
        self._purging.add(what)
        await trio.sleep(PURGE_SECONDS)
        self._purging.remove(what)
        self.purged += files
        return Answer(204)

    def _admit(self, times: list[float], count: int, limit: int, seconds: float) -> bool:
        now = trio.current_time()
        recent = [time for time in times if time > now - seconds]
        if len(recent) + count > limit:
            self.refused += 1
            return False
        times += [now] * count
        return True


def reply(status: int, document: object) -> Answer:
    """Return an answer that holds a document."""
    return Answer(status, json.dumps(document).encode(), {"content-type": "application/json"})


def problem(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer that refuses."""
    body = json.dumps({"id": code, "message": message, "request_id": "req-1"}).encode()
    return Answer(status, body, headers or {})


@asynccontextmanager
async def cdn_api() -> AsyncIterator[CdnApi]:
    """Run the API."""
    server = CdnApi()
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        )
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()
