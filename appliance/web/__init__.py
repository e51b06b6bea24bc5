"""The web server: the page and its API, uploads, live updates, metrics and webhooks."""
