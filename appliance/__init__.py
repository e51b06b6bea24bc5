"""The box as its user meets it: the `relume` command."""
