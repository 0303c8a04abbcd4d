"""The web servers of the lab: the ready-made modules nginx and httpd, with a configuration by which
every answer names its node.

The answer to `GET /node` has the node's name in its header X-Node, and repeats X-Number.
"""

import shutil
from enum import StrEnum
from pathlib import Path

import yaml

_MODULES = Path(__file__).resolve().parents[3] / "modules"
_INSTALLED = Path("/etc/telamon/modules")
VIRTUAL_IP = "10.0.0.100"
VIRTUAL_IP_6 = "fd00:0:0:1::100"
PORT = 80


class Server(StrEnum):
    """A web server and the module for it."""

    NGINX = "nginx"
    HTTPD = "httpd"


_NGINX = """\
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx-error.log;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path /run/nginx-body;
  proxy_temp_path /run/nginx-proxy;
  fastcgi_temp_path /run/nginx-fastcgi;
  uwsgi_temp_path /run/nginx-uwsgi;
  scgi_temp_path /run/nginx-scgi;
  keepalive_timeout 1h;
  keepalive_requests 100000000;
  server {
    listen 80 backlog=4096;
    listen [::]:80 backlog=4096;
    add_header X-Node $hostname;
    add_header X-Number $http_x_number;
    location = /node { return 200 "$hostname\\n"; }
  }
}
"""

_HTTPD = """\
ServerRoot /usr/lib/apache2
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule alias_module modules/mod_alias.so
LoadModule headers_module modules/mod_headers.so
ServerName ${TELAMON_NODE}
User www-data
Group www-data
DefaultRuntimeDir /run
ErrorLog /var/log/httpd-error.log
Listen 80
ListenBacklog 4096
KeepAlive On
KeepAliveTimeout 3600
MaxKeepAliveRequests 0
MaxRequestWorkers 400
DocumentRoot /run
Redirect 204 /node
Header always set X-Node ${TELAMON_NODE}
Header always set X-Number "expr=%{HTTP:X-Number}"
"""


_CONFIGURATION = {Server.NGINX: _NGINX, Server.HTTPD: _HTTPD}


def make_module(server: Server, directory: Path, **keys: object) -> Path:
    """Makes the module in `directory`: the ready-made one with other `keys` of module.yaml."""
    source = directory / server
    shutil.copytree(_MODULES / server, source)
    module = yaml.safe_load((source / "module.yaml").read_text())
    variables = {f"{server.name}_CONFIG": str(_INSTALLED / server / "server.conf")}
    module["application"]["variables"] = variables
    (source / "module.yaml").write_text(yaml.safe_dump({**module, **keys}))
    (source / "server.conf").write_text(_CONFIGURATION[server])
    return source
