"""Who makes a request: a user with a role, authenticated by a session or an API token."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a user may do; each role includes the one before it."""

    VIEWER = "viewer"
    """Sees jobs and downloads results."""
    OPERATOR = "operator"
    """Also uploads files, and starts and manages their own jobs."""
    ADMINISTRATOR = "administrator"
    """Full access, including users and settings."""

    def includes(self, other: "Role") -> bool:
        """Return True if this role may do everything that the other may."""
        return _ORDER.index(self) >= _ORDER.index(other)


_ORDER: Final = (Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who performs an action; `id` is None for the command line and for someone who is not logged in."""

    id: str | None
    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated user.

    `session` is the hash of the cookie's secret, `token` the id of an API token; one of them is set. `role` is the
    lower of the user's and the token's role. `must_change`: the password was chosen by someone else.
    """

    id: str
    name: str
    role: Role
    session: str | None = None
    csrf: str = ""
    token: str | None = None
    address: str = ""
    must_change: bool = False

    @property
    def actor(self) -> Actor:
        """The user as an actor of the audit log."""
        return Actor(self.id, self.name, self.address)
