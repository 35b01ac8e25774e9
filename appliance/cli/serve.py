"""`hearth serve`: run the daemon in this process."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from appliance.config import load_config


def serve(
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with settings.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="State, models, keys. Default: ~/.local/share/hearth.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one. Default: 8080.")
    ] = None,
) -> None:
    """Run the daemon.

    SIGTERM or Ctrl-C ends it, after the running requests; SIGHUP reads the configuration again. Every setting can also
    come from the environment: HEARTH_PORT, HEARTH_DATA_DIR, …
    """
    # Imported here: the other commands should start at once, without the daemon's parts.
    from appliance.daemon import run

    raise typer.Exit(run(partial(load_config, config, {"data_dir": data_dir, "host": host, "port": port})))


EXAMPLES = ("hearth serve", "hearth serve --data-dir /srv/hearth --port 9000")
