"""Import checkpoints into the user's own zoo."""
