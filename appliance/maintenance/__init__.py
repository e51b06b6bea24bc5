"""Maintenance of an installation: backup and restore, log files, and the health check."""
