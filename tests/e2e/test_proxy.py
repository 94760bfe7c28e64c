"""nginx as docs/how-to/proxy/nginx.conf sets it up, before a real vault: what it logs, what it passes on, what it does not.

Needs nginx on the path (Debian: nginx-light); `.ci/run` installs it where it may.
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

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        NGINX is None and not os.environ.get("CI"), reason="nginx is not installed; in CI that is a failure"
    ),
]
CANARY = "canary.person@example.com"
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
def proxied(folder: Path, upstreams: dict[str, int]) -> Iterator[Proxy]:
    """The page's file, with this machine's ports, certificate and folders put in."""
    trusted = certificate(folder)
    port, plain = free_port(), free_port()
    text = (ROOT / "docs" / "how-to" / "proxy" / "nginx.conf").read_text("utf-8")
    for documented, real in upstreams.items():
        assert f"server 127.0.0.1:{documented};" in text
        text = text.replace(f"server 127.0.0.1:{documented};", f"server 127.0.0.1:{real};")
    for there, here in {
        "listen 443 ssl": f"listen {HOST}:{port} ssl",
        "listen 80": f"listen {HOST}:{plain}",
        "server_name vault.example": "server_name localhost",
        "/etc/ssl/vault.example.pem": str(folder / "cert.pem"),
        "/etc/ssl/private/vault.example.key": str(folder / "key.pem"),
        "/var/log/nginx/": f"{folder}/",
    }.items():
        assert there in text
        text = text.replace(there, here)
    (folder / "vault.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/start.log crit;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}include {folder}/vault.conf;\n}}\n"
    )
    process = subprocess.Popen([str(NGINX), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"])  # noqa: S603
    proxy = Proxy(folder, f"https://localhost:{port}", f"http://{HOST}:{plain}", trusted)
    try:
        awaited("the proxy", lambda: process.poll() is not None or _answers(proxy.plain))
        assert process.poll() is None, "nginx refused its configuration"
        yield proxy
    finally:
        proxy.http.close()
        process.send_signal(signal.SIGQUIT)
        process.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 404
    except httpx.HTTPError:
        return False


def test_g6_the_proxy_of_the_page_serves_the_vault_and_writes_no_value_no_key_and_no_address(
    house: House, tmp_path: Path
) -> None:
    secrets = house.furnish()
    house.environ["PROFILE_VAULT_PUBLIC_URL"] = "https://vault.example"
    browser = house.ask("sources", "add", "site", "--class", "client")["write_key"]
    with house.serving() as door:
        port = int(door.url.rpartition(":")[2])
        dead = free_port()
        with proxied(tmp_path, {"8001": port, "8011": port, "8012": dead, "8021": port}) as proxy:
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
            assert http.get(lookup, headers={"x": "y" * 40_000}).status_code == 400
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
            assert http.post("/v1/subjects/find", json={"kind": "email", "value": CANARY}).status_code == 403

            awaited("the log", lambda: "/v1/spaces/*/profiles/{kind}:{value}/* 200" in proxy.log())
            assert "/v1/projects/{key}/settings 200" in proxy.log()
        written = proxy.written()
        for secret in (CANARY, "canary", browser, secrets.write_key, secrets.tokens["email-tool"]):
            assert secret.encode() not in written
        assert not re.search(rb"\b127\.0\.0\.1\b", (tmp_path / "vault.log").read_bytes())


def test_g17_what_a_client_claims_about_its_way_does_not_pass_the_proxy(tmp_path: Path) -> None:
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
        with proxied(tmp_path, {"8001": port, "8011": port, "8012": port, "8021": port}) as proxy:
            claimed = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded")
            answer = proxy.http.get("/v1/purposes", headers={**dict.fromkeys(claimed, "127.0.0.1"), "x-other": "kept"})
            assert answer.status_code == 204
            assert answer.headers["strict-transport-security"]
    finally:
        upstream.shutdown()
        upstream.server_close()
    (headers,) = seen
    assert headers["x-other"] == "kept"
    assert headers["host"] == "localhost"
    assert not [name for name in claimed if name in headers]
