"""Names and passwords: what is accepted, and how passwords are hashed (argon2id) and compared."""

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

# What people type first where ten characters are asked for.
_GUESSED_FIRST: Final = frozenset(
    {
        "1234567890", "0123456789", "0987654321", "1111111111", "0000000000", "password12", "password123",
        "password1234", "passwordpassword", "qwertyuiop", "qwertz1234", "administrator", "adminadmin", "changeme123",
        "letmein123", "iloveyou123", "relumerelume", "welcome123",
    }
)  # fmt: skip

# A hash takes 19 MiB for about 40 ms; two at once keep a crowd that logs in from filling the memory.
_MEMORY_KIB, _ROUNDS, _AT_ONCE = 19 * 1024, 3, 2
NOBODYS_HASH: Final = (
    "$argon2id$v=19$m=19456,t=3,p=1$roEYK+QzGfxpORA1RQeusg$Zn62h+tgtfjZG2LTUJpuFWgUqGo42wfPpRsaprU8EKE"
)
"""Of a random password that was thrown away: for names without an account, with the same parameters as all others."""
_turnstile = threading.BoundedSemaphore(_AT_ONCE)


def clean_name(text: str) -> str:
    """Bring an account's name to one form.

    Raises:
        AccountError: It is empty, too long, or has characters that do not show.
    """
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise AccountError(
            f"a name has 1 to {MAX_NAME_LENGTH} characters, this one has {len(name)}", code="name", field="name"
        )
    if any(unicodedata.category(mark)[0] == "C" for mark in name):
        raise AccountError(
            "a name has letters, digits and spaces; this one has invisible characters", code="name", field="name"
        )
    return name


def name_key(name: str) -> str:
    """Return the form under which names are the same: `Anna` and `anna` are one account."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_password(password: str, name: str) -> None:
    """Refuse a password that is too short, too long, or guessed first.

    Raises:
        AccountError: It says what is expected.
    """
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise AccountError(
            f"use {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters, for example three or four unrelated "
            f"words; this password has {len(password)}",
            code="password_length",
            field="password",
        )
    plain = password.casefold()
    if plain in _GUESSED_FIRST or plain == name_key(name) or len(set(plain)) < 3:
        raise AccountError("this password is too common; choose another", code="password_common", field="password")


def hash_password(password: str) -> str:
    """Hash a password with a salt of its own."""
    with _turnstile:
        return _hasher().hash(password)


def verify_password(password: str, hashed: str | None) -> bool:
    """Compare a password with a hash; without one the same work is done, and the answer is no."""
    with _turnstile:
        if hashed is None:
            _hasher().verify(password[:MAX_PASSWORD_LENGTH], NOBODYS_HASH)
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
    """Return an identifier of 16 URL-safe characters that cannot be guessed."""
    return secrets.token_urlsafe(ID_BYTES)


def new_secret() -> str:
    """Return a secret of 43 URL-safe characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """Return what is stored of a random secret; it has 256 bits, so one plain hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_token(session_secret: str) -> str:
    """Return the token that a page sends with its changes: only who has the session can know it."""
    return hmac.new(session_secret.encode("utf-8", "surrogateescape"), b"relume csrf", hashlib.sha256).hexdigest()


def equal_secrets(one: str, other: str) -> bool:
    """Compare two texts in a time that tells nothing."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))
