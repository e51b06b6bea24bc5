"""Audio enhancement: rates, bands, level, engine, music detector."""
