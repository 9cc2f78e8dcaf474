"""The tests here go through a real mount, which they kill."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and "rgw" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mount)
