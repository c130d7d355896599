"""A bare reverse proxy, nginx with keep-alive to the upstream and no accounting: what a hop costs at the least."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.running import free_port, wait_for

from benchmarks.processes import Served, children, listening, pinned, server_core

_CONFIG = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; user root;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_max_body_size 8m; client_body_buffer_size 512k; client_body_temp_path {folder}/bodies;
  proxy_buffers 16 32k; proxy_buffer_size 32k; proxy_max_temp_file_size 0;
  upstream instant {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    keepalive_requests 10000000;
    location / {{ proxy_pass http://instant; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@contextmanager
def bare_proxy(folder: Path, upstream: int) -> Iterator[Served | None]:
    """The proxy; None where nginx is not installed."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        yield None
        return
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, upstream=upstream, port=port))
    process = subprocess.Popen(pinned([binary, "-c", str(config)], server_core()), stderr=subprocess.DEVNULL)
    try:
        wait_for("nginx", lambda: listening(port) and children(process.pid))
        yield Served(port, (process.pid, *children(process.pid)))
    finally:
        process.terminate()
        process.wait(timeout=20)
