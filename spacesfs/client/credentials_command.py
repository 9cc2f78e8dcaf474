"""The access key from a command of the user's: a password manager, a vault, a metadata service."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from spacesfs.client.credentials import Credentials, CredentialsError, credentials_of

DEADLINE_SECONDS = 20.0

_NAMES = ("accesskeyid", "secretaccesskey", "sessiontoken")
_LINES = 2  # the id and the secret


@dataclass(frozen=True, slots=True)
class CommandProvider:
    """Runs a command and reads the key from its standard output, which appears nowhere else.

    The output is a JSON object as AWS's ``credential_process`` prints it (``AccessKeyId``, ``SecretAccessKey`` and
    maybe ``SessionToken``; ``access_key_id`` and so on will do), or two lines: the key's id and its secret.

    Attributes:
        command: Words as a shell reads them; no shell runs it.
        environ: Its environment; None for that of this process.
        deadline_seconds: After that the command and what it started is killed.
    """

    command: str
    environ: Mapping[str, str] | None = field(default=None, repr=False)
    deadline_seconds: float = DEADLINE_SECONDS

    def find(self) -> Credentials:
        """Run the command; it must give a key."""
        program = shlex.split(self.command)[0]
        source = f"credential command {program}"
        found = credentials_of(_values(self._output(source), source), _NAMES, source=source)
        if found is None:
            raise CredentialsError(f"{source} printed no access key")
        return found

    def _output(self, source: str) -> str:
        """Return what the command prints; its error output may hold anything, so it is dropped."""
        try:
            process = subprocess.Popen(
                shlex.split(self.command),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that what it starts can be killed too
            )
        except OSError as error:
            raise CredentialsError(f"{source} can't be run: {error.strerror}") from None
        with process:
            try:
                output, _ = process.communicate(timeout=self.deadline_seconds)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise CredentialsError(f"{source} gave no key within {self.deadline_seconds:g} seconds") from None
        if process.returncode != 0:
            raise CredentialsError(f"{source} ended with status {process.returncode}; run it by hand to see why")
        try:
            return output.decode()
        except UnicodeDecodeError:
            raise CredentialsError(f"{source} printed what is not text") from None


def _values(output: str, source: str) -> Mapping[str, str]:
    """Return what the output says, by the names in `_NAMES`.

    Raises:
        CredentialsError: It is neither of the two forms; the message quotes nothing of it.
    """
    if output.lstrip().startswith("{"):
        try:
            document = json.loads(output)
        except json.JSONDecodeError:
            raise CredentialsError(f"{source} printed broken JSON") from None
        return {name.lower().replace("_", ""): value for name, value in document.items() if isinstance(value, str)}
    lines = output.rstrip("\n").split("\n")
    if len(lines) != _LINES:
        raise CredentialsError(f"{source} should print JSON, or two lines: the key's id and its secret")
    return dict(zip(_NAMES, lines, strict=False))
