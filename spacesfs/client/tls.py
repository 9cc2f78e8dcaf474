"""How TLS is set: which certificates are trusted."""

from __future__ import annotations

import ssl
from pathlib import Path

from spacesfs.client.endpoint import Endpoint, EndpointError


def tls_settings(endpoint: Endpoint, ca_bundle: Path | None) -> ssl.SSLContext:
    """Return the TLS settings: the system's certificates or the user's, TLS 1.2 and up."""
    if not endpoint.is_secure:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and cheap since it loads no certificates
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as problem:  # also ssl.SSLError
        raise EndpointError(f"CA bundle {ca_bundle} can't be used: {problem.strerror or problem}") from None
