"""Activation ranges and the cost of INT8."""
