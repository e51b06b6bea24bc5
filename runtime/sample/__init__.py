"""A clip to try Relume on: real photographs that move, spoiled, with speech-like sound in noise."""
