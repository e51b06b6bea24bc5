"""The version of the running Relume."""

from importlib.metadata import PackageNotFoundError, version


def relume_version() -> str:
    """Return the installed version, or `not installed` for a source tree."""
    try:
        return version("relume")
    except PackageNotFoundError:
        return "not installed"
