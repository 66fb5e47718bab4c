"""What the gateway is compared with: the bare upstream and nginx in front of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from load import UPSTREAM_PORTS
from measure import Target

NGINX_PORT = 8090
_NGINX = """\
daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx-error.log crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_body_buffer_size 64k; keepalive_requests 1000000000;
  client_body_temp_path {work}/nginx-1; proxy_temp_path {work}/nginx-2; fastcgi_temp_path {work}/nginx-3;
  uwsgi_temp_path {work}/nginx-4; scgi_temp_path {work}/nginx-5;
  upstream mocks {{ {servers} keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://mocks; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


def nginx_program() -> str | None:
    """nginx, which Debian keeps where only root's PATH looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def yardsticks(work: Path, upstream_pid: int) -> list[Target]:
    config = work / "nginx.conf"
    servers = " ".join(f"server 127.0.0.1:{port};" for port in UPSTREAM_PORTS)
    config.write_text(_NGINX.format(work=work, port=NGINX_PORT, servers=servers))
    command = f"{nginx_program()} -c {config} -e {work}/nginx-error.log"
    return [
        Target("direct", UPSTREAM_PORTS[0], pid=upstream_pid),
        Target("nginx", NGINX_PORT, command=command),
    ]
