"""Starts the server alone: `python -m appliance.web`."""

import typer

from appliance.exit_codes import exit_on_error
from appliance.web.cli import serve
from runtime.errors import RelumeError

if __name__ == "__main__":
    try:
        typer.run(serve)
    except RelumeError as error:
        exit_on_error(error)
