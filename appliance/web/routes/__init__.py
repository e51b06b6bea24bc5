"""The routes of the API, one subject a file; each names the role that it needs."""
