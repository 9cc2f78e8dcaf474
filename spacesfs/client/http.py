"""httpx's client as it is used here, and the settings of TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from spacesfs.client.endpoint import Endpoint, EndpointError


class _NoCookies(httpx.Cookies):
    """Keeps none. Spaces send none that matter, and looking for them takes a tenth of a small request's CPU."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Ignore the cookies of a response."""


class HttpClient(httpx.AsyncClient):
    """httpx's client without a memory."""

    _nothing = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        """No cookies at all."""
        return self._nothing

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        """Ignore cookies."""


def tls_settings(endpoint: Endpoint, ca_bundle: Path | None) -> ssl.SSLContext:
    """Return the TLS settings: the system's certificates or the user's, TLS 1.2 and up."""
    if not endpoint.is_secure:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and cheap since it loads no certificates
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as problem:  # also ssl.SSLError
        raise EndpointError(f"CA bundle {ca_bundle} can't be used: {problem.strerror or problem}") from None
