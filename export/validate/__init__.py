"""`relume-build validate`: every network through every gate."""
