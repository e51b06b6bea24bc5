"""User names, passwords (argon2id) and random secrets: validation, hashing and comparison."""

import hashlib
import hmac
import secrets
import threading
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final

from appliance.errors import AccountError

if TYPE_CHECKING:
    from pwdlib import PasswordHash


MIN_PASSWORD_LENGTH: Final = 10
MAX_PASSWORD_LENGTH: Final = 200
MAX_NAME_LENGTH: Final = 64

# The most common passwords of ten characters and more.
_COMMON: Final = frozenset(
    {
        "1234567890", "0123456789", "0987654321", "1111111111", "0000000000", "password12", "password123",
        "password1234", "passwordpassword", "qwertyuiop", "qwertz1234", "administrator", "adminadmin", "changeme123",
        "letmein123", "iloveyou123", "relumerelume", "welcome123",
    }
)  # fmt: skip

# A hash takes 19 MiB and about 40 ms; two at once bound the memory when many users log in together.
_MEMORY_KIB, _ROUNDS, _CONCURRENT = 19 * 1024, 3, 2
DUMMY_HASH: Final = "$argon2id$v=19$m=19456,t=3,p=1$roEYK+QzGfxpORA1RQeusg$Zn62h+tgtfjZG2LTUJpuFWgUqGo42wfPpRsaprU8EKE"
"""The hash of a discarded random password, with the usual parameters: compared when the user does not exist."""
_hash_slots = threading.BoundedSemaphore(_CONCURRENT)


def clean_name(text: str) -> str:
    """Normalise a user name.

    Raises:
        AccountError: It is empty, too long, or has invisible characters.
    """
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise AccountError(
            f"use a name of 1 to {MAX_NAME_LENGTH} characters; this one has {len(name)}", code="name", field="name"
        )
    if any(unicodedata.category(mark)[0] == "C" for mark in name):
        raise AccountError(
            "the name has invisible characters; use letters, digits and spaces", code="name", field="name"
        )
    return name


def name_key(name: str) -> str:
    """Return the key by which names are compared: `Anna` and `anna` are one user."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_password(password: str, name: str) -> None:
    """Reject a password that is too short, too long, or too common.

    Raises:
        AccountError: It is; the message says what is expected.
    """
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise AccountError(
            f"use {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters, for example three or four unrelated "
            f"words; this password has {len(password)}",
            code="password_length",
            field="password",
        )
    plain = password.casefold()
    if plain in _COMMON or plain == name_key(name) or len(set(plain)) < 3:
        raise AccountError("this password is too common; choose another", code="password_common", field="password")


def hash_password(password: str) -> str:
    """Hash a password with a random salt."""
    with _hash_slots:
        return _hasher().hash(password)


def verify_password(password: str, hashed: str | None) -> bool:
    """Return True if a password matches a hash; without a hash, do the same work and return False."""
    with _hash_slots:
        if hashed is None:
            _hasher().verify(password[:MAX_PASSWORD_LENGTH], DUMMY_HASH)
            return False
        return _hasher().verify(password[:MAX_PASSWORD_LENGTH], hashed) and len(password) <= MAX_PASSWORD_LENGTH


@cache
def _hasher() -> "PasswordHash":
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    return PasswordHash((Argon2Hasher(time_cost=_ROUNDS, memory_cost=_MEMORY_KIB, parallelism=1),))


ID_BYTES: Final = 12
SECRET_BYTES: Final = 32


def new_id() -> str:
    """Return a random id of 16 URL-safe characters."""
    return secrets.token_urlsafe(ID_BYTES)


def new_secret() -> str:
    """Return a random secret of 43 URL-safe characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """Return the hash of a random secret for storage; with 256 bits of entropy a plain SHA-256 is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_token(session_secret: str) -> str:
    """Return the CSRF token of a session, which the page sends with every request that changes something."""
    return hmac.new(session_secret.encode("utf-8", "surrogateescape"), b"relume csrf", hashlib.sha256).hexdigest()


def equal_secrets(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
