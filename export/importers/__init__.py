"""An owner's own checkpoints into their zoo."""
