"""Optimised engines: the command that manages them, and the thread that builds requested ones."""
