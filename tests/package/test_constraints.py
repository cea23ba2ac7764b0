"""The pinned versions can be installed on every supported Python, down to the first release of the oldest one."""

import configparser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PINS = dict(line.split(";")[0].strip().split("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)  # fmt: skip


@pytest.fixture(scope="module")
def oldest():
    """The first release of the oldest supported Python, such as 3.11.0."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    [least] = [part.version for part in SpecifierSet(setup["options"]["python_requires"]) if part.operator == ">="]
    return f"{least}.0"


def test_pins_accept_the_first_release_of_the_oldest_python(oldest):
    refused, read = {}, 0
    for name, version in PINS.items():
        try:
            found = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue  # belongs to an extra that is not installed
        if found["Version"] != version:
            continue
        read += 1
        if (needs := found.get("Requires-Python")) and oldest not in SpecifierSet(needs):
            refused[f"{name}=={version}"] = needs
    assert read > 50 and not refused
