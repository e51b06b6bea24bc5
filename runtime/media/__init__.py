"""Media input and output: files to frames and samples with exact times, and back into one file."""
