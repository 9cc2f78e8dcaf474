"""httpx's own transport, for what ours does not do: going through a proxy."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # public, but not in typeshed

import httpx


class StockTransport(httpx.AsyncHTTPTransport):
    """`httpx.AsyncHTTPTransport` that sends the extension ``target`` through proxies, too.

    httpcore writes that extension over the target of its own CONNECT, so here it travels in the URL.
    """

    def __init__(self, tls: ssl.SSLContext, *, connections: int, idle_seconds: float, proxy: str | None) -> None:
        """Make it.

        Raises:
            ValueError: ``proxy`` is not the URL of an HTTP proxy.
        """
        if proxy is not None and not _is_http(proxy):
            raise ValueError("it should look like http://host:port")
        limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=idle_seconds
        )
        super().__init__(verify=tls, limits=limits, proxy=proxy, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; see `httpx.AsyncBaseTransport`."""
        target = request.extensions.pop("target", None)
        if target is not None:
            request.url = _ExactURL(request.url, target)
        return await super().handle_async_request(request)


def _is_http(proxy: str) -> bool:
    try:
        return httpx.URL(proxy).scheme in ("http", "https")
    except httpx.InvalidURL:
        return False


class _ExactURL(httpx.URL):
    """A URL whose path and query are taken as they are."""

    def __init__(self, url: httpx.URL, target: bytes) -> None:
        super().__init__(url)
        self._target = target

    @property
    def raw_path(self) -> bytes:
        return self._target


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy that the environment names for a URL, as curl and others understand it; None for none."""
    parsed = httpx.URL(url)
    names = [f"{parsed.scheme}_proxy", f"{parsed.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    proxy = next((environ[name] for name in names if environ.get(name)), None)
    excluded = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if proxy is None or proxy_bypass_environment(parsed.netloc.decode("ascii"), {"no": excluded}):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
