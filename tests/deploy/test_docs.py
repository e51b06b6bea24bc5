"""Commands, settings and files in the documentation exist."""

import re
from pathlib import Path

import pytest
import typer

from appliance.cli import app
from appliance.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "docs/quick-start.md",
    ROOT / "docs/operations.md",
    ROOT / "docs/engines.md",
    ROOT / "docs/backends.md",
]


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def text(request) -> str:
    return request.param.read_text()


def commands(text: str) -> list[list[str]]:
    """Return the words of every `relume ...` in code, with what follows in it."""
    code = re.findall(r"```\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    lines = [line for part in code for line in part.replace("\\\n", " ").splitlines()]
    found = [re.search(r"(?:^|/|exec relume |\s\*\s+\S*/)relume ([a-z].*)$", line) for line in lines]
    return [match[1].split() for match in found if match is not None and not match[1].startswith("cifs")]


def test_every_command_and_option_that_is_named_exists(text):
    named = commands(text)
    assert len(named) > 3
    for words in named:
        command = typer.main.get_command(app)
        while hasattr(command, "commands"):
            if not words:
                break  # a group of commands, named as a whole
            assert words[0] in command.commands, words
            command = command.commands[words.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts}
        for word in words:
            if word.startswith("-"):
                assert word in options, (command.name, word)


def test_every_setting_that_is_named_exists():
    text = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"^([a-z_]+) = ", text, re.MULTILINE)) | set(re.findall(r"`([a-z]+_[a-z_]+)`", text))
    named |= {match.lower() for match in re.findall(r"RELUME_([A-Z_]+)", text)}

    assert {"port", "tls_certificate", "webhook_attempts"} <= named
    assert named <= set(Settings.model_fields)


def test_every_file_that_is_linked_exists(text):
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target
