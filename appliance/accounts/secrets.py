"""Random secrets: what a person or a program holds, and the hash of it that the database keeps."""

import hashlib
import hmac
import secrets
from typing import Final

ID_BYTES: Final = 12
SECRET_BYTES: Final = 32


def new_id() -> str:
    """Give an identifier of 16 URL-safe characters that cannot be guessed."""
    return secrets.token_urlsafe(ID_BYTES)


def new_secret() -> str:
    """Give a secret of 43 URL-safe characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """Give what is stored of a random secret; it has 256 bits, so one plain hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_of(session_secret: str) -> str:
    """Give the token that a page sends with its changes: only who has the session can know it."""
    return hmac.new(session_secret.encode("utf-8", "surrogateescape"), b"relume csrf", hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare two texts in a time that tells nothing."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
