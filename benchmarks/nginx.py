"""A bare reverse proxy, nginx with keep-alive to the upstream and no accounting: what a hop costs at the least."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.running import free_port, wait_for

from benchmarks.processes import server_core

_CONFIG = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; user root;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  upstream instant {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    keepalive_requests 10000000;
    location / {{ proxy_pass http://instant; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@contextmanager
def bare_proxy(folder: Path, upstream: int) -> Iterator[int]:
    """The proxy's port; 0 where nginx is not installed."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        yield 0
        return
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, upstream=upstream, port=port))
    process = subprocess.Popen(
        ["taskset", "-c", str(server_core()), binary, "-c", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        import socket

        def listening() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for("nginx", listening)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)
