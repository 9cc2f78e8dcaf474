"""``spacesfs cdn``: the CDN in front of a bucket, by DigitalOcean's own API and its token."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click
from msgspec.structs import asdict

from spacesfs.cli.layers import collect
from spacesfs.cli.options import space_options
from spacesfs.cli.output import print_json, say
from spacesfs.cli.paths import complete_path
from spacesfs.cli.places import bring_up_to_date, bucket_place
from spacesfs.cli.remote import as_json_option
from spacesfs.cli.spaces import Flags, Spaces, run
from spacesfs.client.cdn import API_URL, TTLS_SECONDS, CdnClient, CdnEndpoint, CdnOptions
from spacesfs.client.cdn_urls import cdn_url, origin_host
from spacesfs.client.credentials_token import find_api_token
from spacesfs.client.wire.stock import proxy_for
from spacesfs.config import Options
from spacesfs.logs import hide_secret

T = TypeVar("T")


@click.group()
def cdn() -> None:
    """The CDN in front of a bucket. Needs an API token: DIGITALOCEAN_ACCESS_TOKEN, or doctl's."""


@cdn.command()
@click.argument("place", metavar="BUCKET")
@as_json_option
@space_options
def status(place: str, *, as_json: bool, **flags: object) -> None:
    """Show whether a bucket has a CDN, and how it is set."""
    _show(run(lambda: _with_cdn(place, flags, lambda api, origin: api.find(origin))), as_json=as_json)


@cdn.command()
@click.argument("place", metavar="BUCKET")
@click.option(
    "--ttl",
    type=click.Choice([str(ttl) for ttl in TTLS_SECONDS]),
    help="Seconds that the CDN keeps an object which does not say itself.  [default: as it is; 3600 at first]",
)
@click.option("--domain", metavar="NAME", help="A host of your own, which needs --certificate; '' for none any more.")
@click.option("--certificate", metavar="ID", help="Id of a certificate at DigitalOcean.")
@as_json_option
@space_options
def enable(
    place: str, *, ttl: str | None, domain: str | None, certificate: str | None, as_json: bool, **flags: object
) -> None:
    """Put the CDN in front of a bucket, or change how it is set; what is not given stays as it is."""
    seconds = None if ttl is None else int(ttl)

    async def work(api: CdnClient, origin: str) -> CdnEndpoint:
        return await api.enable(origin, ttl=seconds, custom_domain=domain, certificate_id=certificate)

    _show(run(lambda: _with_cdn(place, flags, work)), as_json=as_json)


@cdn.command()
@click.argument("place", metavar="BUCKET")
@space_options
def disable(place: str, **flags: object) -> None:
    """Take the CDN away; the bucket stays as it is."""

    async def work(api: CdnClient, origin: str) -> None:
        await api.disable((await _existing(api, origin)).id)

    run(lambda: _with_cdn(place, flags, work))


@cdn.command()
@click.argument("places", nargs=-1, required=True, metavar="BUCKET[:KEY]...", shell_complete=complete_path)
@space_options
def purge(places: Sequence[str], **flags: object) -> None:
    """Drop objects from the CDN's cache. KEY may end in *; without KEY the whole bucket goes.

    What a mount has not sent yet of a path inside it is sent first.
    """
    named = [bucket_place(text) for text in places]
    if len({place.bucket for place in named}) > 1:
        raise click.UsageError("purge one bucket at a time")
    files = [f"{place.key}*" if place.is_folder else place.key for place in named]
    for place in named:
        bring_up_to_date(place)  # else the CDN would fetch what was there before

    async def work(api: CdnClient, origin: str) -> None:
        await api.purge((await _existing(api, origin)).id, files)

    run(lambda: _with_cdn(places[0], flags, work))


@cdn.command()
@click.argument("place", metavar="BUCKET[:KEY]", shell_complete=complete_path)
@space_options
def url(place: str, **flags: object) -> None:
    """Print where the CDN serves a bucket or an object, whether it is enabled or not."""
    named = bucket_place(place)

    async def work() -> str:
        async with Spaces(flags) as spaces:
            return cdn_url(await spaces.endpoint(named), named.bucket, named.key)

    say(run(work))


async def _with_cdn(text: str, flags: Flags, work: Callable[[CdnClient, str], Awaitable[T]]) -> T:
    """Do something with the API, and the origin that it knows a bucket by."""
    place = bucket_place(text)
    async with Spaces(flags) as spaces:
        origin = origin_host(await spaces.endpoint(place), place.bucket)
    token = find_api_token(os.environ, home=Path.home())
    hide_secret(token.value)
    config = collect(flags, place.bucket).check(Options)
    api_url = os.environ.get("DIGITALOCEAN_API_URL") or API_URL
    options = CdnOptions(api_url, config.timeout, ca_bundle=config.ca_bundle, proxy=proxy_for(api_url, os.environ))
    async with CdnClient(token.value, options) as api:
        return await work(api, origin)


async def _existing(api: CdnClient, origin: str) -> CdnEndpoint:
    found = await api.find(origin)
    if found is None:
        raise click.ClickException(f"{origin} has no CDN; spacesfs cdn enable makes one")
    return found


def _show(found: CdnEndpoint | None, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found) if found else None)
    elif found is None:
        say("no CDN")
    else:
        for name, value in asdict(found).items():
            if value != "":
                say(f"{name}: {value}")
