"""Media in and out: files to pictures and samples with exact times, and back into one file."""
