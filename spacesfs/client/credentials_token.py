"""The token of DigitalOcean's own API, which is another thing than an access key: where its tools keep it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spacesfs.client.credentials import CredentialsError, config_home, read_secret_file

_LINE = re.compile(r"""( *)("[^"]*"|'[^']*'|[^\s:#][^:]*):(?: +(.*?))? *""")
_CONTEXTS = "auth-contexts"
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token of the API. ``source`` says for the user where it was found."""

    value: str = field(repr=False)
    source: str


def find_api_token(environ: Mapping[str, str], *, home: Path) -> ApiToken:
    """Find the token: the variables of Terraform and doctl, then the file of doctl.

    As with doctl the file's context counts, or the one in ``DIGITALOCEAN_CONTEXT``; naming another context than
    ``default`` there leads past the variables.

    Args:
        environ: The environment variables.
        home: The user's home directory.

    Raises:
        CredentialsError: There is none, or it can't be used.
    """
    asked = environ.get("DIGITALOCEAN_CONTEXT", "")
    if asked in ("", _DEFAULT):
        for name in ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"):
            if environ.get(name, "").strip():
                return _token(environ[name], name)
    path = config_home(environ, home) / "doctl" / "config.yaml"
    file = read_secret_file(path)
    context, token = _of_doctl(file.text if file else "", asked)
    if file is None or not token:
        where = f"{path} has no token for context {context}" if file and asked else "no API token found"
        raise CredentialsError(f"{where}; set DIGITALOCEAN_ACCESS_TOKEN, or run: doctl auth init")
    file.check_private()
    return _token(token, f"{path} [{context}]")


def _of_doctl(text: str, asked: str) -> tuple[str, str]:
    """Return the context that counts in doctl's file, and its token or ""."""
    values = read_flat_yaml(text)
    context = asked or values.get("context") or _DEFAULT
    return context, values.get("access-token" if context == _DEFAULT else f"{_CONTEXTS}.{context}", "")


def _token(text: str, source: str) -> ApiToken:
    """Check that a header can carry a token."""
    value = text.strip()
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise CredentialsError(f"{source} holds characters that no API token has")
    return ApiToken(value, source)


def read_flat_yaml(text: str) -> dict[str, str]:
    """Return the texts in a YAML file as doctl writes it: names at the margin, and names one level below them.

    The lower ones get the upper one's name and a dot before theirs. What else a YAML file can hold is passed over.
    """
    values: dict[str, str] = {}
    above = ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        name, value = match[2].strip("\"'"), match[3] or ""
        if not match[1]:
            above = name
        values[f"{above}.{name}" if match[1] else name] = value.strip("\"'")
    return values
