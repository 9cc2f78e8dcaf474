"""The access key, and what all places that may hold one have in common.

`credentials_chain` knows the places and their order; `credentials_renewal` looks again when a key is refused.
"""

from __future__ import annotations

import configparser
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

READABLE_BY_OTHERS = 0o044


class CredentialsError(Exception):
    """No usable access key; the message is one line that says what to do, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key. ``source`` says for the user where it was found; it makes no other key."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    source: str = field(default="given", compare=False)


@dataclass(frozen=True, slots=True)
class Awaited:
    """There is no access key yet, for a ``reason`` in one line; it is looked for until there is one."""

    reason: str


class Provider(Protocol):
    """One place where an access key may be."""

    def find(self) -> Credentials | None:
        """Return the key, or None when this place holds none. May block.

        Raises:
            CredentialsError: There is something, but it can't be used.
        """


def first_found(providers: Iterable[Provider]) -> Credentials:
    """Return the key of the first provider that has one.

    Raises:
        CredentialsError: None has, or the first one found is unusable.
    """
    for provider in providers:
        found = provider.find()
        if found is not None:
            return found
    raise CredentialsError("no access key found; set SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY")


@dataclass(frozen=True, slots=True)
class EnvironmentProvider:
    """A pair of environment variables, and maybe a third with a session token."""

    environ: Mapping[str, str] = field(repr=False)
    id_name: str
    secret_name: str
    token_name: str | None = None

    def find(self) -> Credentials | None:
        """Return the key if both variables are set; one alone is an error."""
        names = (self.id_name, self.secret_name, self.token_name or "")
        return credentials_of(self.environ, names, source="environment")


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file that may hold a secret, as it was at one moment."""

    path: Path
    text: str = field(repr=False)
    mode: int

    def sections(self) -> Mapping[str, Mapping[str, str]]:
        """Return what the file holds as an ini file.

        Raises:
            CredentialsError: It is none; the message quotes nothing of it.
        """
        parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="")
        try:
            parser.read_string(self.text)
        except configparser.Error:
            raise CredentialsError(f"{self.path} is not a valid ini file") from None  # its message quotes the line
        return {name: dict(parser[name]) for name in parser.sections()}

    def check_private(self, forbidden: int = READABLE_BY_OTHERS) -> None:
        """Make sure that no one else can read it; to be called once a secret was found in it.

        Raises:
            CredentialsError: Others can.
        """
        if self.mode & forbidden:
            allowed = 0o600 if forbidden & 0o040 else 0o640
            raise CredentialsError(
                f"{self.path} can be read by other users; run: chmod {allowed:o} {shlex.quote(str(self.path))}"
            )


def read_secret_file(path: Path) -> SecretFile | None:
    """Return a file's text and mode, or None if it does not exist.

    Raises:
        CredentialsError: It can't be read, or is not text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return SecretFile(path, file.read(), os.fstat(file.fileno()).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CredentialsError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} is not a valid text file") from None


def credentials_of(values: Mapping[str, str], names: tuple[str, str, str], *, source: str) -> Credentials | None:
    """Make credentials of named values.

    Args:
        values: What a place holds.
        names: Of the key's id, its secret, and its session token ("" for none) among the values.
        source: Where they are from, for the user.

    Returns:
        None if both id and secret are missing or empty.

    Raises:
        CredentialsError: One of them is missing, or no header could carry it.
    """
    texts = {name: values.get(name, "").strip() for name in names}
    for name, text in texts.items():
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise CredentialsError(f"{name} ({source}) holds characters that no access key has")
    id_name, secret_name, token_name = names
    if not (texts[id_name] or texts[secret_name]):
        return None
    for present, missing in ((id_name, secret_name), (secret_name, id_name)):
        if not texts[missing]:
            raise CredentialsError(f"{present} is set but {missing} is not ({source}); set both")
    return Credentials(texts[id_name], texts[secret_name], texts[token_name] or None, source)


def config_home(environ: Mapping[str, str], home: Path) -> Path:
    """Return the folder where the user's programs keep their settings: ``$XDG_CONFIG_HOME``, or ``~/.config``."""
    named = Path(environ.get("XDG_CONFIG_HOME", ""))
    return named if named.is_absolute() else home / ".config"
