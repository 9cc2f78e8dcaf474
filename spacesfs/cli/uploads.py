"""``spacesfs uploads``: multipart uploads that were begun and not ended. They cost, and no listing shows them."""

from __future__ import annotations

import time

import click

from spacesfs.cli.options import space_options
from spacesfs.cli.output import counted, human_seconds, print_json, say
from spacesfs.cli.places import bucket_place
from spacesfs.cli.remote import as_json_option, iso_time
from spacesfs.cli.spaces import Spaces, run
from spacesfs.client.models import Upload
from spacesfs.config import parse_duration


@click.group()
def uploads() -> None:
    """List and abort unfinished multipart uploads."""


@uploads.command(name="list")
@click.argument("place", metavar="BUCKET[:PREFIX]")
@as_json_option
@space_options
def list_uploads(place: str, *, as_json: bool, **flags: object) -> None:
    """List the uploads in progress, and how old they are."""
    named = bucket_place(place)

    async def work() -> list[Upload]:
        async with Spaces(flags) as spaces:
            return await (await spaces.bucket(named)).list_uploads(named.key)

    found = run(work)
    if as_json:
        print_json([{"key": u.key, "upload": u.upload_id, "initiated": iso_time(u.initiated_ns)} for u in found])
        return
    for upload in found:
        say(f"{human_seconds(time.time() - upload.initiated_ns / 10**9):>6}  {upload.key}")


@uploads.command()
@click.argument("place", metavar="BUCKET[:PREFIX]")
@click.option("--older-than", default="24h", show_default=True, metavar="TIME", help="How long nothing came.")
@space_options
def abort(place: str, *, older_than: str, **flags: object) -> None:
    """Abort uploads of which nothing has come for a while; their parts are freed.

    A younger one may be somebody's live upload, which would fail.
    """
    named = bucket_place(place)
    try:
        seconds = parse_duration(older_than)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from None

    async def work() -> list[Upload]:
        async with Spaces(flags) as spaces:
            return await (await spaces.bucket(named)).abort_uploads(named.key, older_than_seconds=seconds)

    gone = run(work)
    for upload in gone:
        say(upload.key)
    say(f"{counted(len(gone), 'upload')} aborted")
