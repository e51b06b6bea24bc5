"""Engines, media in and out, the video and audio pipelines, presets and reports. Never imports torch."""
