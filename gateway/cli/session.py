"""One command's conversation with a desk, and options that many commands have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from gateway.cli.client import Client, open_client

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Org = Annotated[
    str, typer.Option(help="Org to act in, on the machine of the gateway only.", metavar="NAME", show_default=False)
]


@contextmanager
def session(org: str = "") -> Iterator[Client]:
    """A client of the desk the environment names. Raises Failed."""
    client = open_client(os.environ, org)
    try:
        yield client
    finally:
        client.close()
