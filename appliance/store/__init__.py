"""What the box remembers: one SQLite database in one data directory."""
