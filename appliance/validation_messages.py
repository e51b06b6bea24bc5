"""Validation and connection errors as messages for users, without patterns, type names and Python values."""

import re
import socket
import ssl
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

_SHOWN: Final = 60
"""Longer values are truncated: enough to recognise them."""

# The expected form of fields that pydantic checks with a pattern, by name.
_FORMS: Final = {
    "path": "enter the full path, starting with /",
    "destination": "enter the full path, starting with /",
    "done_folder": "enter the full path, starting with /",
    "from": "enter a time such as 22:00",
    "to": "enter a time such as 06:00",
    "backend": "enter auto, or a backend of this server",
    "device": "enter auto, or a device of this server",
    "model": "enter the name of a model (letters, digits, dots, - and _)",
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
    """Return a message for an invalid value.

    Args:
        fault: An entry of `ValidationError.errors()`.
        title: The name of the field for the message.
        bounds: The minimum and maximum of the field, if known.
    """
    kind, context, value = str(fault["type"]), fault.get("ctx", {}), fault["input"]
    name = str(fault["loc"][-1]) if fault["loc"] else ""
    most = context.get("max_length")
    expected = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
    sentences = {
        "string_pattern_mismatch": f"{title} is {quote_value(value)}: "
        f"{_FORMS.get(name, 'it contains invalid characters')}",
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
    return sentences.get(kind) or f"{title} {_TYPES.get(kind, 'has an invalid value')}"


# Parts of messages from libraries and Python that mean nothing to users.
_NOISE: Final = (
    (re.compile(r"\[Errno -?\d+\] "), ""),
    (re.compile(r"<urlopen error (.*?)>"), r"\1"),
    (re.compile(r"\b(?:Posix|Windows)Path\('([^']*)'\)"), r"\1"),
    (re.compile(r"\bValue error, "), ""),
    (re.compile(r"\bInput should be a valid integer\b.*"), "enter a whole number"),
    (re.compile(r"\bInput should be a valid number\b.*"), "enter a number"),
)


def clean_message(message: str) -> str:
    """Remove from a message what a library added for programmers."""
    for pattern, instead in _NOISE:
        message = pattern.sub(instead, message)
    return message


def describe_connection_error(error: Exception, *, timeout_s: float) -> str:
    """Return a message for a failed connection to another machine."""
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, Exception) else error
    sentences: tuple[tuple[type[Exception], str], ...] = (
        (TimeoutError, f"no response within {timeout_s:g} s"),
        (ConnectionRefusedError, "connection refused; nothing is listening at this address"),
        (socket.gaierror, "unknown host name"),
        (ssl.SSLCertVerificationError, "its certificate is not trusted by this server"),
        (ssl.SSLError, "no TLS on this port"),
        (ConnectionError, "the connection was closed without a response"),
    )
    known = next((sentence for kind, sentence in sentences if isinstance(cause, kind)), None)
    if known is None and isinstance(cause, OSError) and cause.strerror:
        known = cause.strerror[0].lower() + cause.strerror[1:]
    return known or clean_message(str(cause))


def quote_value(value: object) -> str:
    """Return a value in quotation marks, truncated if it is long."""
    if not isinstance(value, (str, int, float)):
        return "missing" if value is None else "a list" if isinstance(value, (list, tuple)) else "an object"
    text = str(value)
    text = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return f"“{text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}”"


def suggest(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return `; did you mean X?` for the most similar known name, or an empty string."""
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
