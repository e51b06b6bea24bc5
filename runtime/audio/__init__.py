"""The sound's journey: rates, bands, level, engine, guard."""
