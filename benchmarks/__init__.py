"""Measures speed and quality against peers and limits."""
