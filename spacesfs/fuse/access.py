"""What a mount needs before it can begin: the access key, and where the bucket is."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from spacesfs.client.credentials import Credentials, CredentialsError
from spacesfs.client.credentials_chain import KeySearch
from spacesfs.config import MountConfig
from spacesfs.errors import MountError
from spacesfs.logs import hide_secret


async def find_key(config: MountConfig) -> Credentials:
    """Look for the access key, now as later, and keep it out of the logs.

    Raises:
        CredentialsError: There is none that can be used.
    """
    search = KeySearch(os.environ, Path.home(), config.profile, config.credential_command, config.bucket)
    # In a thread: a command takes its time, and so may a home directory on another host.
    found = await trio.to_thread.run_sync(search.find, abandon_on_cancel=True)
    hide_secret(found.secret_access_key)
    if found.session_token:
        hide_secret(found.session_token)
    return found


async def first_key(config: MountConfig) -> Credentials:
    """Return the access key that the mount begins with.

    Raises:
        MountError: There is none that can be used.
    """
    try:
        return await find_key(config)
    except CredentialsError as error:
        raise MountError(str(error)) from error
