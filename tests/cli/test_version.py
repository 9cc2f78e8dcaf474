"""The versions that somebody who helps will ask for."""

from __future__ import annotations

import json
import platform

import trio

from spacesfs import __version__
from tests.cli.running import spacesfs


def test_version_tells_of_libraries_and_kernel() -> None:
    facts = json.loads(spacesfs("version", "--json").stdout)
    assert (facts["spacesfs"], facts["trio"]) == (__version__, trio.__version__)
    assert (facts["kernel"], facts["python"]) == (platform.release(), platform.python_version())
    assert facts["fusermount3"][0].isdigit()


def test_version_for_people_has_a_line_for_each() -> None:
    facts = json.loads(spacesfs("version", "--json").stdout)
    lines = spacesfs("version").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(facts)
