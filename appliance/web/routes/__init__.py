"""The routes of the API, one subject per file; every route names the role that it requires."""
