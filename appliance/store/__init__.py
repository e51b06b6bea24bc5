"""One SQLite database in one data directory."""
