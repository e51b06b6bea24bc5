"""The messages of the API have a translation in every language of the page."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

APPLIANCE = Path(__file__).resolve().parents[3] / "appliance"
FOLDERS = ("accounts", "web", "watch")
ERRORS = {
    *("AccountError", "AccountNotFoundError", "ApiError", "FolderError", "FolderNotFoundError", "LoginError"),
    *("MailError", "OwnPresetError", "OwnPresetNotFoundError", "TooManyLoginsError", "UploadError"),
    *("UploadSpaceError", "WebhookError", "WebhookNotFoundError"),
}
# Commands of the terminal, and messages for programs that upload.
OTHERS = ("cli.py", "standalone.py", "uploads.py")


def messages() -> Iterator[str]:
    """Yield the texts with which the API refuses, a word in the place of each value."""
    for path in (path for folder in FOLDERS for path in sorted((APPLIANCE / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else None
            if path.name in OTHERS or not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            if call.func.id in ERRORS:
                yield from (text for text in map(read_text, call.args) if " " in text)


def read_text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "Xyz" for part in node.values)  # type: ignore[misc]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_every_message_of_the_api_is_in_german(furnished: Any, log_in: Callable[..., Any]) -> None:
    texts = list(messages())
    page = log_in(furnished.url)

    left = page.evaluate(
        """async (texts) => {
          const { translate, useLanguage } = await import('/page/js/language.js');
          await useLanguage('de');
          const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
          return texts.filter((text) => translate(sentence(text)) === sentence(text));
        }""",
        texts,
    )

    assert len(texts) > 60
    assert left == []
