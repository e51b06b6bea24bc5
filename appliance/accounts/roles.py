"""The three roles, each of which may do what the one before it may."""

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What an account may do."""

    VIEWER = "viewer"
    """Sees jobs and downloads results."""
    OPERATOR = "operator"
    """Also uploads, and makes and steers jobs of their own."""
    ADMINISTRATOR = "administrator"
    """Everything."""

    def includes(self, other: "Role") -> bool:
        """Tell whether this role may do all that the other one may."""
        return _ORDER.index(self) >= _ORDER.index(other)


_ORDER: Final = (Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR)
