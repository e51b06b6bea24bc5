"""Who makes a request."""

from dataclasses import dataclass

from appliance.accounts.audit import Actor
from appliance.accounts.roles import Role


@dataclass(frozen=True, slots=True)
class Caller:
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
