"""The path of the video: window, tiles, engine."""
