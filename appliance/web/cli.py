"""The command `relume serve`."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data directory; ~/.local/share/relume by default."),
]


def serve(
    *,
    data: Data = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Listen address: 0.0.0.0 for all networks, 127.0.0.1 for this machine."),
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port; 8443 by default.")] = None,
    tls: Annotated[
        bool | None,
        typer.Option("--tls/--no-tls", help="Use HTTPS (default); a certificate is created if there is none."),
    ] = None,
) -> None:
    """Run the server: web page, watch folders and job queue.

    On first start it prints a link to create the administrator account. Options override environment variables
    (RELUME_PORT, ...), and these override relume.toml in the data directory.
    """
    from appliance.web.server import serve as run

    run(data, host=host, port=port, tls=tls)
