"""Durable segments: finished work on the disk, so that a job resumes after any interruption."""
