"""Durable segments: a job's work on the disk, piece by piece, so that it goes on after any interruption."""
