"""Video enhancement: motion, tiles, model runners, pipeline."""
