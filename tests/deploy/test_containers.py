"""The container files, parsed as a builder would; nothing here builds an image."""

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from appliance.cli import app
from appliance.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def read(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a container file, continued lines joined and arguments put in."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found, arguments = [], {}
    for line in lines:
        word, _, rest = line.partition(" ")
        assert word.isupper(), line
        if word == "ARG":
            key, _, value = rest.partition("=")
            arguments[key] = value
        for key, value in arguments.items():
            rest = rest.replace(f"${{{key}}}", value)
        found.append((word, rest.strip()))
    return found


@pytest.fixture(params=["Dockerfile", "Dockerfile.jetson"])
def instructions(request) -> list[tuple[str, str]]:
    return read(request.param)


def last_stage(instructions):
    begin = max(number for number, (word, _) in enumerate(instructions) if word == "FROM")
    return instructions[begin:]


def every(instructions, name: str) -> list[str]:
    return [rest for word, rest in instructions if word == name]


def test_what_is_copied_exists_and_is_sent_to_the_builder(instructions):
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = set()
    for rest in every(instructions, "COPY"):
        *sources, _ = rest.split()
        if not sources[0].startswith("--from="):
            copied |= set(sources)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored
    # Engines are built on the server by a separate process, from `export`.
    assert {"kernels", "runtime", "appliance", "zoo", "export"} <= copied


def test_its_variables_are_settings_and_its_ports_the_ones_that_are_served(instructions):
    stage = last_stage(instructions)
    variables = dict(part.split("=", 1) for rest in every(stage, "ENV") for part in shlex.split(rest))
    ours = [name for name in variables if name.startswith("RELUME_")]
    assert ours == ["RELUME_DATA"]
    assert "data" in Settings.model_fields
    ports = {int(port) for rest in every(stage, "EXPOSE") for port in rest.split()}
    assert ports == {Settings.model_fields["port"].default, Settings.model_fields["plain_port"].default}


def test_the_health_check_uses_an_existing_module(instructions):
    (health,) = every(last_stage(instructions), "HEALTHCHECK")
    options, _, command = health.partition("CMD ")
    assert "--interval=" in options
    assert "--timeout=" in options
    assert json.loads(command)[1:] == ["-m", "appliance.maintenance.health"]
    assert find_spec("appliance.maintenance.health") is not None


def test_it_starts_a_command_that_there_is(instructions):
    stage = last_stage(instructions)
    assert [json.loads(rest) for rest in every(stage, "ENTRYPOINT")] == [["relume"]]
    (command,) = (json.loads(rest)[0] for rest in every(stage, "CMD"))
    assert command in {entry.name or entry.callback.__name__ for entry in app.registered_commands}
    assert "relume" in PROJECT["scripts"]


def test_it_installs_extras_that_there_are(instructions):
    installs = [rest for rest in every(instructions, "RUN") if "pip install" in rest]
    # Either what an extra demands, or what the lock file holds, whose hashes are checked.
    assert all(re.search(r"'\.\[[\w,]+\]'|--require-hashes -r|--no-deps \.$", rest) for rest in installs)
    for extra in re.findall(r"\.\[([\w,]+)\]", " ".join(installs)):
        assert set(extra.split(",")) <= set(PROJECT["optional-dependencies"])
    assert "torch" not in " ".join(installs)


def names_of(extra: str) -> set[str]:
    """Return the distributions that an installation with some extras requires."""
    wanted = [*PROJECT["dependencies"], *(one for name in extra.split(",") for one in EXTRAS[name])]
    return {re.match(r"[A-Za-z0-9-]+", entry)[0] for entry in wanted}


@pytest.mark.parametrize("extra", ["cpu", "cuda", "jetson", "cuda,rtx", "cuda,tensorrt", "cpu,rtx", "cpu,tensorrt"])
def test_every_installation_has_one_onnx_runtime_and_never_two(extra):
    """`onnxruntime` and `onnxruntime-gpu` are two distributions of one module: together they lose the GPU."""
    assert len(names_of(extra) & {"onnxruntime", "onnxruntime-gpu"}) == 1


def test_what_is_installed_without_extras_runs_no_models_and_brings_no_onnx_runtime():
    assert not {"onnxruntime", "onnxruntime-gpu", "openvino"} & {
        re.match(r"[A-Za-z0-9-]+", entry)[0] for entry in PROJECT["dependencies"]
    }


def test_each_image_and_what_make_and_the_guides_install_has_an_onnx_runtime():
    assert "pip install --no-cache-dir --require-hashes -r requirements.lock" in (ROOT / "Dockerfile").read_text()
    assert re.search(r"^onnxruntime==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    for text in [(ROOT / name).read_text() for name in ("Dockerfile.jetson", "docs/quick-start.md")]:
        (extra,) = set(re.findall(r"pip install [^\n]*'\.\[([\w,]+)\]'", text))
        assert names_of(extra) & {"onnxruntime", "onnxruntime-gpu"}
    (extras,) = re.findall(r"^RUN_EXTRAS \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "onnxruntime" in names_of(extras)


def test_nothing_else_than_what_ships_is_sent_to_the_builder():
    patterns = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    for name in (".git", ".venv", "shared", "training", "tests", "runs"):
        assert not any(fnmatch(name, pattern) for pattern in patterns)


def test_the_python_of_the_image_is_one_that_relume_runs_on():
    (version,) = re.findall(r"ARG PYTHON=(\S+)", (ROOT / "Dockerfile").read_text())
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
