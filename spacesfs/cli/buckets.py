"""``spacesfs buckets``: the buckets of an account."""

from __future__ import annotations

from typing import Any

import click

from spacesfs.access import first_key
from spacesfs.cli.layers import collect
from spacesfs.cli.options import space_options
from spacesfs.cli.output import complain, print_json, say
from spacesfs.cli.places import SpacePlace
from spacesfs.cli.remote import as_json_option, iso_time
from spacesfs.cli.spaces import Flags, Spaces, Way, client_of, run
from spacesfs.client.endpoint import Endpoint, spaces_endpoints
from spacesfs.client.errors import SpacesError
from spacesfs.config import Options, SpaceConfig
from spacesfs.tasks import open_team


@click.group()
def buckets() -> None:
    """List, create and delete buckets; a limited key may not."""


@buckets.command(name="list")
@as_json_option
@space_options
def list_buckets(*, as_json: bool, **flags: object) -> None:
    """List the account's buckets: those of the region or endpoint that is given, or of all regions."""
    found = run(lambda: _list(flags))
    if as_json:
        print_json(found)
        return
    for bucket in found:
        say(f"{bucket['created'][:10]}  {bucket['region']:<9}  {bucket['name']}")


@buckets.command()
@click.argument("name", metavar="BUCKET")
@space_options
def create(name: str, **flags: object) -> None:
    """Create a bucket in the region that is given."""
    config = collect(flags, name).check(SpaceConfig, bucket=name)
    if not config.is_located:
        raise click.UsageError("say where the bucket shall be with --region or --endpoint")

    async def work() -> None:
        async with client_of(Way(config, config.address, await first_key(config))) as client:
            await client.create_bucket(name)

    run(work)


@buckets.command()
@click.argument("name", metavar="BUCKET")
@space_options
def delete(name: str, **flags: object) -> None:
    """Delete an empty bucket."""

    async def work() -> None:
        async with Spaces(flags) as spaces:
            client = await spaces.client(await spaces.way(SpacePlace(name, "")))
            await client.delete_bucket(name)

    run(work)


async def _list(flags: Flags) -> list[dict[str, Any]]:
    """Ask one server, or all regions at once; a region that does not answer is said, and fails only if it is the one.

    Raises:
        SpacesError: No server answers as it should.
    """
    config = collect(flags, None).check(Options)
    key = await first_key(config)
    endpoints = {config.address.region: config.address} if config.is_located else spaces_endpoints()
    found: list[dict[str, Any]] = []
    failures: dict[str, SpacesError] = {}

    async def ask(region: str, endpoint: Endpoint) -> None:
        try:
            async with client_of(Way(config, endpoint, key)) as client:
                listed = await client.list_buckets()
        except SpacesError as error:
            failures[region] = error
        else:
            found.extend({"name": name, "region": region, "created": iso_time(time)} for name, time in listed)

    async with open_team() as team:
        for region, endpoint in endpoints.items():
            team.start_soon(ask, region, endpoint)
    if len(failures) == len(endpoints):
        raise next(iter(failures.values()))
    for region, error in sorted(failures.items()):
        complain(f"{region}: {error}")
    return sorted(found, key=lambda bucket: (bucket["name"], bucket["region"]))
