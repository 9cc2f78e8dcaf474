"""``spacesfs uploads``: multipart uploads that were begun and not ended. They cost, and no listing shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from spacesfs.cli.options import space_options
from spacesfs.cli.output import counted, human_seconds, print_json, say
from spacesfs.cli.paths import complete_path
from spacesfs.cli.places import bucket_place
from spacesfs.cli.remote import as_json_option, iso_time
from spacesfs.cli.spaces import Spaces, run
from spacesfs.client.models import Upload
from spacesfs.config import parse_duration

Command = Callable[..., Any]


def _older_than(default: str) -> Callable[[Command], Command]:
    """Give a command the option of an age, which arrives in seconds."""

    def seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:  # noqa: ARG001 - click's
        try:
            return parse_duration(value)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--older-than") from None

    shown = default != "0s"
    text = "How long nothing came."
    return click.option(
        "--older-than", default=default, show_default=shown, metavar="TIME", callback=seconds, help=text
    )


def _records(found: Iterable[Upload]) -> list[dict[str, str]]:
    return [{"key": u.key, "upload": u.upload_id, "initiated": iso_time(u.initiated_ns)} for u in found]


@click.group()
def uploads() -> None:
    """List and abort unfinished multipart uploads."""


@uploads.command(name="list")
@click.argument("place", metavar="BUCKET[:PREFIX]", shell_complete=complete_path)
@_older_than("0s")
@as_json_option
@space_options
def list_uploads(place: str, *, older_than: float, as_json: bool, **flags: object) -> None:
    """List the uploads in progress, and how old they are; with --older-than those that abort would abort."""
    named = bucket_place(place)

    async def work() -> list[Upload]:
        async with Spaces(flags) as spaces:
            bucket = await spaces.bucket(named)
            if not older_than:
                return await bucket.list_uploads(named.key)
            return await bucket.idle_uploads(named.key, older_than_seconds=older_than)

    found = run(work)
    if as_json:
        print_json(_records(found))
        return
    for upload in found:
        say(f"{human_seconds(time.time() - upload.initiated_ns / 10**9):>6}  {upload.key}")


@uploads.command()
@click.argument("place", metavar="BUCKET[:PREFIX]", shell_complete=complete_path)
@_older_than("24h")
@as_json_option
@space_options
def abort(place: str, *, older_than: float, as_json: bool, **flags: object) -> None:
    """Abort uploads of which nothing has come for a while; their parts are freed.

    A younger one may be somebody's live upload, which would fail.
    """
    named = bucket_place(place)

    async def work() -> list[Upload]:
        async with Spaces(flags) as spaces:
            return await (await spaces.bucket(named)).abort_uploads(named.key, older_than_seconds=older_than)

    gone = run(work)
    if as_json:
        print_json(_records(gone))
        return
    for upload in gone:
        say(upload.key)
    say(f"{counted(len(gone), 'upload')} aborted")
