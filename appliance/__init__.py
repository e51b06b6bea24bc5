"""The `relume` command and the server: jobs, watch folders, users and web page."""
