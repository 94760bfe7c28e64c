"""nginx and Caddy as docs/how-to/proxy sets them up, before a real vault: what they log, what they pass on, what not.

Needs nginx and caddy on the path (Debian: nginx-light, caddy); `.ci/run` installs them where it may.
"""

import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.house import HOST, PATIENCE, ROOT, House, awaited, free_port

PROGRAMS = {name: shutil.which(name) or shutil.which(name, path="/usr/sbin") for name in ("nginx", "caddy")}
PAGE = ROOT / "docs" / "how-to" / "proxy"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize(
        "program",
        [
            pytest.param(
                name,
                marks=pytest.mark.skipif(
                    path is None and not os.environ.get("CI"),
                    reason=f"{name} is not installed; in CI that is a failure",
                ),
            )
            for name, path in PROGRAMS.items()
        ],
    ),
]
CANARY = "canary.person@example.com"
OUTSIDE = {"nginx": 403, "caddy": 404}  # what a stranger is told at the desk
SIGNS = {
    "nginx": ("/v1/spaces/*/profiles/{kind}:{value}/* 200", "/v1/projects/{key}/settings 200"),
    "caddy": ('"status":200', '"status":502'),
}
PROFILE = "/v1/spaces/default/collections/users/profiles/"


class Proxy:
    """A running nginx. `folder` holds everything that it may write."""

    def __init__(self, folder: Path, url: str, plain: str, trusted: ssl.SSLContext) -> None:
        self.folder = folder
        self.http = httpx.Client(base_url=url, timeout=PATIENCE, verify=trusted)
        self.plain = plain

    def written(self) -> bytes:
        return b"\n".join(
            path.read_bytes() for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".conf"
        )

    def log(self) -> str:
        return (self.folder / "vault.log").read_text("utf-8")


def certificate(folder: Path) -> ssl.SSLContext:
    """A certificate for localhost, and what trusts it."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    done = subprocess.run(  # noqa: S603
        [*made, "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))


@contextmanager
def proxied(program: str, folder: Path, upstreams: dict[str, int]) -> Iterator[Proxy]:
    """The page's file, with this machine's ports, certificate and folders put in."""
    trusted = certificate(folder)
    port, plain = free_port(), free_port()
    prepare = _nginx if program == "nginx" else _caddy
    command = prepare(folder, upstreams, port, plain)
    environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "said.log").open("wb") as said:
        process = subprocess.Popen(command, env=environ, stdout=said, stderr=said)  # noqa: S603
    proxy = Proxy(folder, f"https://localhost:{port}", f"http://{HOST}:{plain}", trusted)
    try:
        awaited("the proxy", lambda: process.poll() is not None or _answers(proxy.plain))
        assert process.poll() is None, (folder / "said.log").read_text("utf-8")
        yield proxy
    finally:
        proxy.http.close()
        process.send_signal(signal.SIGQUIT)
        process.wait(PATIENCE)


def _filled(name: str, places: dict[str, str]) -> str:
    text = (PAGE / name).read_text("utf-8")
    for there, here in places.items():
        assert there in text, there
        text = text.replace(there, here)
    return text


def _nginx(folder: Path, upstreams: dict[str, int], port: int, plain: int) -> list[str]:
    text = _filled(
        "nginx.conf",
        {f"server 127.0.0.1:{documented};": f"server 127.0.0.1:{real};" for documented, real in upstreams.items()}
        | {
            "listen 443 ssl": f"listen {HOST}:{port} ssl",
            "listen 80": f"listen {HOST}:{plain}",
            "server_name vault.example": "server_name localhost",
            "/etc/ssl/vault.example.pem": str(folder / "cert.pem"),
            "/etc/ssl/private/vault.example.key": str(folder / "key.pem"),
            "/var/log/nginx/": f"{folder}/",
        },
    )
    (folder / "vault.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/start.log crit;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}include {folder}/vault.conf;\n}}\n"
    )
    return [str(PROGRAMS["nginx"]), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]


def _caddy(folder: Path, upstreams: dict[str, int], port: int, plain: int) -> list[str]:
    own = f"tls {folder}/cert.pem {folder}/key.pem"  # in place of the certificate that it fetches by itself
    text = _filled(
        "Caddyfile",
        {f"127.0.0.1:{documented}": f"127.0.0.1:{real}" for documented, real in upstreams.items()}
        | {
            "auto_https disable_redirects": "auto_https off",
            "http://vault.example {": f"http://{HOST}:{plain} {{",
            "\nvault.example {": f"\nhttps://localhost:{port} {{\n\tbind {HOST}\n\t{own}",
            "/var/log/caddy/": f"{folder}/",
        },
    )
    (folder / "Caddyfile.conf").write_text(text)
    return [str(PROGRAMS["caddy"]), "run", "--config", str(folder / "Caddyfile.conf"), "--adapter", "caddyfile"]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 404
    except httpx.HTTPError:
        return False


def test_g6_the_proxy_of_the_page_serves_the_vault_and_writes_no_value_no_key_and_no_address(
    program: str, house: House, tmp_path: Path
) -> None:
    secrets = house.furnish()
    house.environ["PROFILE_VAULT_PUBLIC_URL"] = "https://vault.example"
    browser = house.ask("sources", "add", "site", "--class", "client")["write_key"]
    with house.serving() as door:
        port = int(door.url.rpartition(":")[2])
        dead = free_port()
        with proxied(program, tmp_path, {"8001": port, "8011": port, "8012": dead, "8021": port}) as proxy:
            http = proxy.http
            message = {"type": "identify", "userId": CANARY, "messageId": CANARY, "traits": {"email": CANARY}}
            context = {"consent": {"categoryPreferences": {"advertising": True}}}
            sent = http.post("/v1/identify", json={**message, "context": context}, auth=(secrets.write_key, ""))
            assert sent.json()["stored"] == 1
            lookup = f"{PROFILE}email:{CANARY}/traits"
            found = http.get(lookup, auth=(secrets.tokens["email-tool"], ""))
            assert found.json()["traits"]["email"] == CANARY
            told = http.get(f"/v1/projects/{browser}/settings").json()["integrations"]["Segment.io"]
            assert (told["protocol"], told["apiHost"]) == ("https", "vault.example/v1")

            # what goes wrong is where proxies like to print whole requests
            big = http.post("/v1/batch", content=b"x" * 1_200_000, params={"q": CANARY})
            assert big.status_code == 413
            warehouse = {"authorization": f"Bearer {secrets.tokens['warehouse']}", "referer": f"https://x/{CANARY}"}
            down = http.get(f"/v1/destinations/warehouse/profiles?cursor={CANARY}", headers=warehouse)
            assert down.status_code == 502
            assert http.get(f"/{CANARY}", headers={"user-agent": CANARY}).status_code == 404
            assert http.get(f"{PROFILE}email:{CANARY}%zz/traits").status_code == 400
            assert http.get(lookup, headers={"x": "y" * 40_000}).status_code in {400, 431}
            plain = httpx.get(proxy.plain + lookup)
            assert (plain.status_code, plain.headers.get("location")) == (404, None)

            # doors of operators and of staff are not for the public side, though the proxy speaks from loopback
            for path in (
                "/livez",
                "/readyz",
                "/metrics",
                "/schema",
                "/schema/openapi.json",
                "//readyz",
                "/v1/../metrics",
            ):
                assert http.get(path).status_code == 404, path
            assert (
                http.post("/v1/subjects/find", json={"kind": "email", "value": CANARY}).status_code == OUTSIDE[program]
            )

            for sign in SIGNS[program]:
                awaited("the log", lambda sign=sign: sign in proxy.log())
        written = proxy.written()
        for secret in (CANARY, "canary", browser, secrets.write_key, secrets.tokens["email-tool"]):
            assert secret.encode() not in written
        assert not re.search(rb"\b127\.0\.0\.1\b", (tmp_path / "vault.log").read_bytes())


def test_g17_what_a_client_claims_about_its_way_does_not_pass_the_proxy(program: str, tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(204)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    upstream = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    port = upstream.server_port
    try:
        with proxied(program, tmp_path, {"8001": port, "8011": port, "8012": port, "8021": port}) as proxy:
            claimed = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded")
            answer = proxy.http.get("/v1/purposes", headers={**dict.fromkeys(claimed, "127.0.0.1"), "x-other": "kept"})
            assert answer.status_code == 204
            assert answer.headers["strict-transport-security"]
    finally:
        upstream.shutdown()
        upstream.server_close()
    (headers,) = seen
    assert headers["x-other"] == "kept"
    assert headers["host"].partition(":")[0] == "localhost"
    assert not [name for name in claimed if name in headers]
