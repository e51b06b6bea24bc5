"""Errors of the store.

RelumeError
└── StoreError
    ├── DatabaseBusyError     another process locks the database
    ├── DatabaseDamagedError  the file is not a database, or damaged
    ├── DatabaseFullError     no space is left for it
    ├── DatabaseNewerError    a newer version of Relume wrote it
    └── DirectoryInUseError   another server uses the data directory
"""

from runtime.errors import RelumeError


class StoreError(RelumeError):
    """The data directory or its database cannot be used."""


class DatabaseBusyError(StoreError):
    """Another process locks the database for too long."""


class DatabaseDamagedError(StoreError):
    """The file is not a database, or damaged."""


class DatabaseFullError(StoreError):
    """No space is left for the database."""


class DatabaseNewerError(StoreError):
    """A newer version of Relume wrote the database."""


class DirectoryInUseError(StoreError):
    """Another server uses the data directory."""
