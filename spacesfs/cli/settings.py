"""``spacesfs config``: which options count, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from spacesfs.cli.layers import FALLBACK_VARIABLES, SYSTEM_FILE, Collected, collect, unknown_variables, user_file
from spacesfs.cli.output import complain, say
from spacesfs.client.credentials import CredentialsError
from spacesfs.client.credentials_chain import KeySearch
from spacesfs.client.endpoint import EndpointError
from spacesfs.config import OPTIONS, Options

_SHOWN_OF_KEY_ID = 4  # characters; enough to tell keys apart


@click.group()
def config() -> None:
    """Show the configuration."""


@config.command()
@click.argument("bucket", required=False)
def show(bucket: str | None) -> None:
    """Show each option's value and where it came from; with BUCKET, as a mount of that bucket would see them."""
    collected = collect({}, bucket)
    options = collected.check(Options)
    rows = [*option_rows(options, collected), _credentials_row(options, bucket)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, origin in rows:
        say(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    say("")
    say(f"Files: {user_file()}, then {SYSTEM_FILE}.")
    for name, variables in FALLBACK_VARIABLES.items():
        say(f"{OPTIONS[name].key} is also read from {', '.join(variables)}, after {OPTIONS[name].variable}.")
    for name in unknown_variables():
        complain(f"{name} in the environment is not an option")


@config.command()
def reference() -> None:
    """Print all options as a Markdown table, as it stands in docs/configuration.md."""
    click.echo(reference_table(), nl=False)


def reference_table() -> str:
    """Return the table of all options: flag, environment name, TOML key, default, meaning."""
    lines = ["| flag | environment | file | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for option in OPTIONS.values():
        flag = f"`{option.flag} {option.metavar}`".replace(" `", "`").replace("|", "\\|")
        lines.append(f"| {flag} | `{option.variable}` | `{option.key}` | {default_of(option.name)} | {option.help} |")
    return "\n".join(lines) + "\n"


def default_of(name: str) -> str:
    """Write an option's default as it is on every host."""
    computed = {
        "uid": "the user who mounts",
        "gid": "their group",
        "cache_dir": "`~/.cache/spacesfs`; root: `/var/cache/spacesfs`",
        "state_dir": "`~/.local/state/spacesfs`; root: `/var/lib/spacesfs`",
    }
    if name in computed:
        return computed[name]
    written = OPTIONS[name].write(OPTIONS[name].field.default)
    return f"`{written}`" if written else ""


def option_rows(options: Options, collected: Collected) -> Iterable[tuple[str, str, str]]:
    """Yield each option's key, its value as users write it, and where it came from."""
    for name, option in OPTIONS.items():
        value, origin = getattr(options, name), collected.origin(name)
        if value is None and name in ("endpoint", "region"):
            value, origin = (
                _from_the_other(options, name),
                f"follows from {'region' if name == 'endpoint' else 'endpoint'}",
            )
        written = option.write(value)
        yield option.key, written or "not set", origin if written else "default"


def _from_the_other(options: Options, name: str) -> str | None:
    """Return the endpoint that follows from the region, or the other way round."""
    try:
        address = options.address
    except EndpointError:
        return None
    return address.url if name == "endpoint" else address.region


def _credentials_row(options: Options, bucket: str | None) -> tuple[str, str, str]:
    search = KeySearch(os.environ, Path.home(), options.profile, options.credential_command, bucket)
    try:
        found = search.find()
    except CredentialsError as error:
        return "access key", "none", str(error)
    return "access key", f"{found.access_key_id[:_SHOWN_OF_KEY_ID]}…", found.source
