"""Activation ranges and what INT8 costs."""
