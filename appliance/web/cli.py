"""`relume serve` as a command."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The data directory; ~/.local/share/relume if left out."),
]


def serve(
    *,
    data: Data = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Listen there: 0.0.0.0 is every network, 127.0.0.1 this box.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="The port of the page; 8443 if left out.")] = None,
    tls: Annotated[
        bool | None,
        typer.Option("--tls/--no-tls", help="Encrypt with a certificate, which is made where there is none."),
    ] = None,
) -> None:
    """Serve the page, watch the folders and work off the queue, until Ctrl-C.

    On the first start it writes a link that makes the first account. What is left out here comes from RELUME_...
    variables, then from relume.toml in the data directory.
    """
    from appliance.web.serve import serve as run

    run(data, host=host, port=port, tls=tls)
