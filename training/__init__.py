"""Degradations, data, losses, the loop and its recipes."""
