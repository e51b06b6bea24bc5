"""The picture's journey: window, tiles, engine."""
