"""What pydantic refuses, in words for the person who typed it: no patterns, no type names, no Python values."""

import re
import socket
import ssl
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

_SHOWN: Final = 60
"""A longer value is cut: it is named so that it is recognised, not read."""

# What one may type where pydantic only knows a pattern, by the name of the field.
_FORMS: Final = {
    "path": "type the full path, beginning with /",
    "destination": "type the full path, beginning with /",
    "done_folder": "type the full path, beginning with /",
    "from": "type a time of day such as 22:00",
    "to": "type a time of day such as 06:00",
    "backend": "type auto, or one of the backends that this server has",
    "device": "type auto, or one of the devices that this server has",
    "model": "type the name of a model: letters, digits, points, - and _",
}
_TYPES: Final = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "bool_parsing": "must be on or off",
    "bool_type": "must be on or off",
    "string_type": "must be text",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "missing": "is missing",
    "string_unicode": "must be text in UTF-8",
}
_BOUNDS: Final = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def describe_validation_error(fault: Mapping[str, Any], title: str, *, bounds: tuple[Any, Any] = (None, None)) -> str:
    """Say what is wrong with one value.

    Args:
        fault: One entry of `ValidationError.errors()`.
        title: What the field is called.
        bounds: The least and the most that the field takes, where they are known.
    """
    kind, context, value = str(fault["type"]), fault.get("ctx", {}), fault["input"]
    name = str(fault["loc"][-1]) if fault["loc"] else ""
    most = context.get("max_length")
    expected = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
    sentences = {
        "string_pattern_mismatch": f"{title} is {quote_value(value)}: "
        f"{_FORMS.get(name, 'it has characters that are not accepted')}",
        **dict.fromkeys(("literal_error", "enum"), f"{title} is {quote_value(value)}: choose one of {expected}"),
        **dict.fromkeys(("string_too_short", "too_short"), f"{title} is too short" if value else f"{title} is missing"),
        **dict.fromkeys(
            ("string_too_long", "too_long"), f"{title} is too long" + ("" if most is None else f": at most {most}")
        ),
        "extra_forbidden": f"there is no field named {quote_value(name)}",
        "json_invalid": "the request is not valid JSON",
        "value_error": str(context.get("error", "")),
    }
    if kind in _BOUNDS:
        return f"{title} must be {_describe_bounds(kind, context, bounds)}"
    return sentences.get(kind) or f"{title} {_TYPES.get(kind, 'has a value that is not accepted')}"


# What the messages of libraries and of Python carry along, and nobody outside can use.
_NOISE: Final = (
    (re.compile(r"\[Errno -?\d+\] "), ""),
    (re.compile(r"<urlopen error (.*?)>"), r"\1"),
    (re.compile(r"\b(?:Posix|Windows)Path\('([^']*)'\)"), r"\1"),
    (re.compile(r"\bValue error, "), ""),
)


def plain(message: str) -> str:
    """Take out of a message what a library put into it for programmers."""
    for pattern, instead in _NOISE:
        message = pattern.sub(instead, message)
    return message


def describe_connection_error(error: Exception, *, timeout_s: float) -> str:
    """Say why another computer could not be reached."""
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, Exception) else error
    sentences: tuple[tuple[type[Exception], str], ...] = (
        (TimeoutError, f"no answer within {timeout_s:g} s"),
        (ConnectionRefusedError, "connection refused; nothing listens at this address"),
        (socket.gaierror, "this name is not known on the network"),
        (ssl.SSLCertVerificationError, "its certificate is not trusted by this server"),
        (ssl.SSLError, "it does not speak TLS at this port"),
        (ConnectionError, "the connection was closed before an answer came"),
    )
    known = next((sentence for kind, sentence in sentences if isinstance(cause, kind)), None)
    if known is None and isinstance(cause, OSError) and cause.strerror:
        known = cause.strerror[0].lower() + cause.strerror[1:]
    return known or plain(str(cause))


def quote_value(value: object) -> str:
    """Write a value as it was typed, cut where it is long; never as Python writes it."""
    if not isinstance(value, (str, int, float)):
        return "missing" if value is None else "a list" if isinstance(value, (list, tuple)) else "an object"
    text = str(value)
    text = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return f"“{text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}”"


def suggest(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return `; did you mean X?` for the nearest known name, or nothing."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _describe_bounds(kind: str, context: Mapping[str, Any], bounds: tuple[Any, Any]) -> str:
    least, most = bounds
    if least is not None and most is not None:
        return f"between {_number(least)} and {_number(most)}"
    key, word = _BOUNDS[kind]
    return f"{word} {_number(context[key])}"


def _number(value: float) -> str:
    return f"{value:,g}" if isinstance(value, float) and not value.is_integer() else f"{int(value)}"
