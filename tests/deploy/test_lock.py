"""The lock file holds every package that the server needs, in versions that pyproject.toml allows, with hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ENTRY = re.compile(
    r"^(?P<pin>[^\s#][^\\]*?) \\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
ENVIRONMENTS = [
    {"python_version": version, "python_full_version": f"{version}.1", "platform_machine": machine}
    for version in ("3.11", "3.12")
    for machine in ("x86_64", "aarch64")
]


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize(
    "environment", ENVIRONMENTS, ids=lambda one: f"{one['python_version']}-{one['platform_machine']}"
)
def test_the_lock_file_fits_the_dependencies(environment: dict[str, str]) -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [Requirement(entry["pin"]) for entry in ENTRY.finditer(text)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["cpu"]]]
    locked = {canonicalize_name(pin.name): pin for pin in pins if applies(pin, environment)}

    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), "every pin has hashes"
    for requirement in needed:
        if applies(requirement, environment):
            (version,) = (one.version for one in locked[canonicalize_name(requirement.name)].specifier)
            assert requirement.specifier.contains(version), requirement
