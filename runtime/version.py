"""The version of Relume that runs."""

from importlib.metadata import PackageNotFoundError, version


def relume_version() -> str:
    """Return the installed version, or say that this is a source tree that is not installed."""
    try:
        return version("relume")
    except PackageNotFoundError:
        return "not installed"
