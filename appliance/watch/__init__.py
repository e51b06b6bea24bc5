"""Watch folders: files are found, validated and enhanced once, or listed with a reason."""
