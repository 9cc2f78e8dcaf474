"""``spacesfs acl`` and ``spacesfs share``: who may read an object."""

from __future__ import annotations

from typing import Literal

import click

from spacesfs.cli.options import space_options
from spacesfs.cli.output import print_json, say
from spacesfs.cli.paths import complete_path
from spacesfs.cli.places import SpacePlace, bring_up_to_date, bucket_place, space_place
from spacesfs.cli.remote import as_json_option
from spacesfs.cli.spaces import Spaces, run
from spacesfs.client.cdn_urls import through_cdn
from spacesfs.client.models import ACLS, Acl
from spacesfs.client.presign import HOUR_SECONDS, signed_url
from spacesfs.client.signing import MAX_PRESIGN_SECONDS


@click.command()
@click.argument("place", metavar="BUCKET[:KEY]", shell_complete=complete_path)
@click.argument("access", required=False, type=click.Choice(ACLS))
@as_json_option
@space_options
def acl(place: str, access: Acl | None, *, as_json: bool, **flags: object) -> None:
    """Show or set who may read an object; of a bucket, who may list it."""
    named = bucket_place(place)
    found = run(lambda: _acl(Spaces(flags), named, access))
    if as_json:
        print_json({"bucket": named.bucket, "key": named.key, "acl": found})
    else:
        say(found)


async def _acl(spaces: Spaces, place: SpacePlace, access: Acl | None) -> Acl:
    bring_up_to_date(place)
    async with spaces:
        bucket = await spaces.bucket(place)
        if place.key:
            if access is not None:
                await bucket.set_acl(place.key, access)
            return await bucket.get_acl(place.key)
        if access is not None:
            await bucket.set_bucket_acl(access)
        return await bucket.get_bucket_acl()


@click.command()
@click.argument("place", metavar="BUCKET:KEY", shell_complete=complete_path)
@click.option(
    "--expires",
    type=click.IntRange(1, MAX_PRESIGN_SECONDS),
    default=HOUR_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long the URL is valid; a week at most.",
)
@click.option("--put", "for_put", is_flag=True, help="A URL to store the object with, by PUT.")
@click.option("--cdn", "by_cdn", is_flag=True, help="Through the CDN, which does not cache it.")
@as_json_option
@space_options
def share(place: str, *, expires: int, for_put: bool, by_cdn: bool, as_json: bool, **flags: object) -> None:
    """Print a URL by which anybody can read an object, until it expires.

    Whether there is such an object is not looked at.
    """
    named = space_place(place)
    if named.is_folder:
        raise click.ClickException(f"{named}: is a folder; only an object can be shared")
    if for_put and by_cdn:
        raise click.UsageError("--put and --cdn do not go together")
    method: Literal["GET", "PUT"] = "PUT" if for_put else "GET"

    async def work() -> str:
        bring_up_to_date(named)
        async with Spaces(flags) as spaces:
            way = await spaces.way(named)
            url = signed_url(method, way.endpoint, way.key, named.bucket, named.key, expires_seconds=expires)
            return through_cdn(url, way.endpoint, named.bucket) if by_cdn else url

    url = run(work)
    if as_json:
        print_json({"method": method, "url": url, "expires_seconds": expires})
    else:
        say(url)
