"""The path of the audio: rates, bands, level, engine, guard."""
