"""Write the manual pages, one for each command, from what ``--help`` knows.

``python scripts/manpages.py DIRECTORY``; `make docs` calls it, and the wheel carries them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from spacesfs import __version__
from spacesfs.cli.main import cli
from spacesfs.cli.settings import default_of
from spacesfs.config import OPTIONS

_STATUSES = "0: done. 1: failed, one line on standard error says why. 2: wrong usage. 130: interrupted."
_FILES = {
    "~/.config/spacesfs/config.toml, /etc/spacesfs/config.toml": "Options, for all buckets and for single ones.",
    "/etc/spacesfs/BUCKET.env": "Keys and options of what is mounted by systemd or fstab; mode 0600.",
    "/var/lib/spacesfs, ~/.local/state/spacesfs": "What is acknowledged and not in the Space yet.",
    "/var/cache/spacesfs, ~/.cache/spacesfs": "What was read.",
}


def main(directory: Path) -> None:
    """Write all pages to ``man1`` of a directory."""
    folder = directory / "man1"
    folder.mkdir(parents=True, exist_ok=True)
    for context in _contexts(click.Context(cli, info_name="spacesfs")):
        name = context.command_path.replace(" ", "-")
        (folder / f"{name}.1").write_text("\n".join(_page(name, context)) + "\n", encoding="utf-8")
    (folder / "mount.spacesfs.1").write_text(".so man1/spacesfs-mount.1\n", encoding="utf-8")


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield a command and all below it."""
    yield context
    for child in _children(context):
        yield from _contexts(child)


def _children(context: click.Context) -> Iterator[click.Context]:
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            if not child.hidden:
                yield click.Context(child, info_name=name, parent=context)


def _page(name: str, context: click.Context) -> Iterator[str]:
    command = context.command
    yield f'.TH {name.upper()} 1 "" "spacesfs {__version__}" "User Commands"'
    yield from (".SH NAME", _text(f"{name} - {_brief(command)}"))
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", f"\\fB{_text(context.command_path)}\\fR {_text(pieces)}")
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(re.split(r"\n\s*\n", (command.help or "").strip())):
        yield from ([".PP"] if number else [])
        yield _text(" ".join(paragraph.split()))
    yield from _section("COMMANDS", [(child.info_name or "", _brief(child.command)) for child in _children(context)])
    yield from _section("OPTIONS", list(_options(context)))
    if command.name == "mount":
        variables = {option.variable: f"As {option.flag}." for option in OPTIONS.values()}
        keys = {"SPACES_ACCESS_KEY_ID, SPACES_SECRET_ACCESS_KEY": "The access key, if it is not found elsewhere."}
        yield from _section("ENVIRONMENT", list((keys | variables).items()))
        yield from _section("FILES", list(_FILES.items()))
    yield from (".SH EXIT STATUS", _text(_STATUSES))
    others = [context.parent, *_children(context)]
    seen = [other.command_path.replace(" ", "-") for other in others if other is not None]
    if seen:
        yield from (".SH SEE ALSO", ", ".join(f"\\fB{_text(other)}\\fR(1)" for other in seen))


def _options(context: click.Context) -> Iterator[tuple[str, str]]:
    options = (one for one in context.command.get_params(context) if isinstance(one, click.Option))
    for parameter in options:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        option = OPTIONS.get(parameter.name or "")
        if option is None or option.flag not in parameter.opts:
            yield record
            continue
        default = default_of(option.name).replace("`", "")  # that of every host, and not of this one
        yield record[0], f"{option.help} [default: {default}]" if default and not option.is_switch else option.help


def _section(title: str, entries: list[tuple[str, str]]) -> Iterator[str]:
    if entries:
        yield f".SH {title}"
    for term, meaning in entries:
        yield from (".TP", f"\\fB{_text(term)}\\fR", _text(meaning))


def _brief(command: click.Command) -> str:
    """Return the first sentence of a help text."""
    first = " ".join((command.help or "").strip().partition("\n\n")[0].split())
    return re.split(r"\.(?: |$)", first)[0]


def _text(text: str) -> str:
    """Escape what roff would take for a request, a hyphen or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    main(Path(sys.argv[1]))
