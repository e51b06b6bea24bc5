"""The three roles, each of which may do what the one before it may."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.accounts.audit import Actor


class Role(StrEnum):
    """What an account may do."""

    VIEWER = "viewer"
    """Sees jobs and downloads results."""
    OPERATOR = "operator"
    """Also uploads, and makes and steers jobs of their own."""
    ADMINISTRATOR = "administrator"
    """Everything."""

    def includes(self, other: "Role") -> bool:
        """Return whether this role may do all that the other one may."""
        return _ORDER.index(self) >= _ORDER.index(other)


_ORDER: Final = (Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR)


@dataclass(frozen=True, slots=True)
class Principal:
    """An account and how it came in.

    `session` is the hash of the cookie's secret, `token` the id of an API token; one of them is set. `role` is the
    least of the account's and the token's. `must_change`: the password is one that somebody else chose.
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
        """The caller as the audit log names it."""
        return Actor(self.id, self.name, self.address)
