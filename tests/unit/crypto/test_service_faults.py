"""What a key service in another machine can do wrong, played before a real one (threats H6, H17, A14, H1)."""

import asyncio
import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.between import HANGS, Between
from tests.keyservices import REGION, ROOT_TOKEN, Services, private
from vault.crypto.keyservice import AWAY, PENDING, REFUSED, KeyService
from vault.crypto.services.awskms import AwsKeyService
from vault.crypto.services.guarded import AT_ONCE, FAILURES, OPEN_SECONDS, Guarded
from vault.crypto.services.pkcs11 import Pkcs11KeyService
from vault.crypto.services.transit import TransitKeyService
from vault.errors import Unavailable, Unreadable, VaultError

SECRET = bytes(range(36))
BRIEF = 0.4  # seconds; the deadline of a test that lets one pass


class Remote:
    """A guarded service behind a gate, with a clock of its own for the breaker and pauses that are noted, not slept."""

    def __init__(self, kind: str, services: Services, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.prefix = f"pv{uuid4().hex[:12]}"
        self.gate = Between(services.kms if kind == "awskms" else services.bao.url).open()
        self.token = private(folder / "token", ROOT_TOKEN)
        self.seconds = 0.0
        self.pauses: list[float] = []
        self.made: list[KeyService] = []
        self.service = self.client()
        self.service.prepare(["state", "purpose-1", "purpose-2"])
        self.sealed = self.service.seal("state", SECRET)
        self.gate.asked.clear()

    def client(self, deadline: float = 10.0) -> Guarded:
        inner: KeyService
        if self.kind == "awskms":
            inner = AwsKeyService(REGION, endpoint=self.gate.url, prefix=self.prefix)
        else:
            inner = TransitKeyService(self.gate.url, self.token, prefix=self.prefix)
        self.made.append(inner)
        return Guarded(inner, deadline=deadline, monotonic=lambda: self.seconds, pause=self.pauses.append)

    def refusal(self, service: KeyService | None = None) -> VaultError:
        with pytest.raises(VaultError) as told:
            (service or self.service).unseal("state", self.sealed)
        return told.value

    def close(self) -> None:
        self.gate.close()
        for one in self.made:
            one.close()


@pytest.fixture(params=["awskms", "transit"])
def remote(request: pytest.FixtureRequest, services: Services, tmp_path: Path) -> Iterator[Remote]:
    made = Remote(request.param, services, tmp_path)
    yield made
    made.close()


def aws(code: str, status: int = 400) -> tuple[int, dict[str, str], bytes]:
    return (
        status,
        {"content-type": "application/x-amz-json-1.1"},
        json.dumps({"__type": code, "message": "no"}).encode(),
    )


def bao(status: int, error: str = "no") -> tuple[int, dict[str, str], bytes]:
    return status, {"content-type": "application/json"}, json.dumps({"errors": [error]}).encode()


def fault(remote: Remote, name: str) -> Any:
    table = {
        "throttled": (aws("ThrottlingException"), bao(429)),
        "broken": (aws("KMSInternalException", 500), bao(500)),
        "gateway": (aws("ServiceUnavailable", 503), bao(502)),
        "sealed": (aws("KMSInternalException", 503), bao(503, "Vault is sealed")),
        "forbidden": (aws("AccessDeniedException"), bao(403, "permission denied")),
    }
    return table[name][0 if remote.kind == "awskms" else 1]


def test_h6_a_refused_connection_is_told_and_the_service_answers_again_once_it_is_back(remote: Remote) -> None:
    remote.gate.close()
    refused = remote.refusal()
    assert (refused.reason, type(refused)) == (AWAY, Unavailable)
    assert "refuses the connection" in refused.hint
    assert remote.service.fault == refused.hint
    remote.gate.open()
    assert remote.service.unseal("state", remote.sealed) == SECRET
    assert remote.service.fault is None


def test_h6_a_latency_of_half_a_minute_ends_at_the_deadline(remote: Remote) -> None:
    service = remote.client(BRIEF)
    remote.gate.fault = HANGS
    late = remote.refusal(service)
    assert (late.reason, late.hint) == (AWAY, "The key service does not answer in time.")
    remote.gate.release()
    assert remote.client().unseal("state", remote.sealed) == SECRET


@pytest.mark.parametrize("name", ["throttled", "broken", "gateway"])
def test_h6_throttling_and_faults_are_tried_again_a_few_times_and_later_each_time(remote: Remote, name: str) -> None:
    remote.gate.fault, remote.gate.times = fault(remote, name), 2
    assert remote.service.unseal("state", remote.sealed) == SECRET
    assert len(remote.pauses) == 2
    assert 0.1 <= remote.pauses[0] <= 0.15
    assert 0.2 <= remote.pauses[1] <= 0.3
    remote.gate.asked.clear()
    remote.gate.times = None
    assert remote.refusal().reason == AWAY
    assert len(remote.gate.asked) == 3


def test_h6_after_some_failures_nobody_is_asked_for_a_moment_then_one(remote: Remote) -> None:
    remote.gate.fault = fault(remote, "sealed")
    for _ in range(FAILURES):
        assert remote.refusal().reason == AWAY
    remote.gate.asked.clear()
    for _ in range(20):
        assert remote.refusal().reason == AWAY
    assert remote.gate.asked == []
    remote.seconds += OPEN_SECONDS
    assert remote.refusal().reason == AWAY  # the one that looks; and the gate is shut again
    seen = len(remote.gate.asked)
    assert seen
    assert remote.refusal().reason == AWAY
    assert len(remote.gate.asked) == seen
    remote.gate.release()
    remote.seconds += OPEN_SECONDS
    assert remote.service.unseal("state", remote.sealed) == SECRET


def test_h17_sixty_four_who_ask_the_same_at_once_are_one_question(remote: Remote) -> None:
    if remote.kind == "awskms":
        remote.service.unseal("state", remote.sealed)  # what it describes once a key is known from here on
    remote.gate.asked.clear()
    start = threading.Barrier(64)
    remote.gate.fault = HANGS

    def ask() -> bytes | str:
        start.wait()
        with suppress(Unavailable):
            return service.unseal("state", remote.sealed)
        return "away"

    service = remote.service
    with ThreadPoolExecutor(64) as threads:
        asked = [threads.submit(ask) for _ in range(64)]
        while not remote.gate.asked:
            pass  # until the first question is there
        remote.gate.release()
        answers = [one.result() for one in asked]
    # who came while the first hung shared its end; who came after it asked anew, together
    assert len(remote.gate.asked) <= 3
    assert set(answers) <= {SECRET, "away"}


def test_h6_no_more_threads_hang_on_a_service_than_it_is_asked_with(remote: Remote) -> None:
    remote.gate.fault = HANGS
    with ThreadPoolExecutor(AT_ONCE + 4) as pool:
        asked = [pool.submit(remote.service.seal, "state", SECRET) for _ in range(AT_ONCE + 4)]
        refused = next(as_completed(asked)).exception()
        remote.gate.release()
        assert isinstance(refused, Unavailable)
        assert "more questions waiting" in refused.hint


def test_h6_a_machine_without_a_thread_to_spare_is_an_outage_that_ends(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        for _ in range(AT_ONCE + FAILURES):
            assert remote.refusal().reason == AWAY
    remote.seconds += OPEN_SECONDS
    assert remote.service.unseal("state", remote.sealed) == SECRET


def test_h6_a_refusal_is_an_answer_it_neither_locks_nor_is_tried_again(remote: Remote) -> None:
    if remote.kind == "transit":  # the real one, by a token without a policy
        private(remote.token, remote_token(remote))
    else:
        remote.gate.fault = fault(remote, "forbidden")
    for _ in range(FAILURES + 1):
        assert remote.refusal().reason == REFUSED
    assert remote.service.fault is None
    assert remote.pauses == []


def remote_token(remote: Remote) -> str:
    import urllib.request  # noqa: PLC0415

    body = json.dumps({"policies": ["default"], "no_parent": True}).encode()
    request = urllib.request.Request(f"{remote.gate.url}/v1/auth/token/create", body, {"X-Vault-Token": ROOT_TOKEN})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return str(json.loads(answer.read())["auth"]["client_token"])


def test_h6_expired_credentials_are_an_outage_and_new_ones_end_it_without_a_restart(remote: Remote) -> None:
    if remote.kind == "transit":
        private(remote.token, "expired-or-never-given")
    else:
        remote.gate.fault = aws("ExpiredTokenException")
    told = remote.refusal()
    assert told.reason == AWAY
    assert "renew" in told.hint or "valid" in told.hint
    remote.gate.release()
    private(remote.token, ROOT_TOKEN)
    assert remote.service.unseal("state", remote.sealed) == SECRET


def test_a14_an_answer_of_another_key_is_not_believed(remote: Remote) -> None:
    """KMS names the key that answered; transit names its version, and the seal itself knows its name."""
    if remote.kind == "awskms":

        def swap(body: bytes) -> bytes:
            told = json.loads(body)
            if "Plaintext" in told or "CiphertextBlob" in told:
                told["KeyId"] = f"arn:aws:kms:{REGION}:123456789012:key/{uuid4()}"
            return json.dumps(told).encode()
    else:

        def swap(body: bytes) -> bytes:
            told = json.loads(body)
            data = told.get("data") or {}
            if "ciphertext" in data:
                data["ciphertext"] = "vault:v0:" + "A" * 40
            if "plaintext" in data:
                data["plaintext"] = "not base64!"
            return json.dumps(told).encode()

    remote.gate.before_answer = swap
    assert isinstance(remote.refusal(), Unreadable)
    with pytest.raises(Unreadable):
        remote.service.seal("state", SECRET)
    with pytest.raises(Unreadable):
        remote.client().seal("state", SECRET)


def test_h6_a_seal_that_does_not_open_is_never_kept(remote: Remote) -> None:
    def garble(body: bytes) -> bytes:
        told = json.loads(body)
        data = told.get("data") or {}
        if "CiphertextBlob" in told and "Plaintext" not in told:
            told["CiphertextBlob"] = base64.b64encode(bytes(150)).decode()
        if "ciphertext" in data:
            data["ciphertext"] = data["ciphertext"][:-8] + "AAAAAAA="
        return json.dumps(told).encode()

    remote.gate.before_answer = garble
    with pytest.raises((Unreadable, Unavailable)):
        remote.service.seal("state", SECRET)


def test_h6_what_is_no_answer_of_the_service_is_an_outage(remote: Remote) -> None:
    for answer in (
        (200, {}, b"<html>proxy</html>"),
        (200, {}, b'{"data": {"plaintext": 7}}'),
        (200, {}, b"[" * 5000),
        (418, {}, b""),
    ):
        remote.gate.fault = answer
        told = remote.refusal()
        assert isinstance(told, Unreadable) or told.reason == AWAY
        remote.seconds += OPEN_SECONDS


def test_h1_a_redirect_is_not_followed(remote: Remote, services: Services) -> None:
    elsewhere = Between(services.bao.url).open()
    try:
        remote.gate.fault = (307, {"location": f"{elsewhere.url}/v1/transit/decrypt/x"}, b"")
        told = remote.refusal()
        assert isinstance(told, Unreadable) or told.reason == AWAY
        assert elsewhere.asked == []
    finally:
        elsewhere.close()


async def test_a_key_service_that_is_elsewhere_is_never_waited_for_on_the_event_loop(remote: Remote) -> None:
    with pytest.raises(Unavailable) as told:
        remote.service.unseal("state", remote.sealed)
    assert told.value.reason == PENDING
    assert remote.gate.asked == []
    assert await asyncio.to_thread(remote.service.unseal, "state", remote.sealed) == SECRET


def test_a14_a_key_of_another_lock_is_not_used_though_the_sealed_bytes_name_it(remote: Remote) -> None:
    other = remote.service.seal("purpose-2", SECRET)
    remote.gate.asked.clear()
    with pytest.raises(Unreadable):
        remote.service.unseal("purpose-1", other)
    assert not any("ecrypt" in one for one in remote.gate.asked)


def test_h1_a_certificate_that_nobody_trusts_here_is_refused(services: Services, tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]  # fmt: skip
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)  # noqa: S603
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

    class Quiet(HTTPServer):
        def handle_error(self, *args: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    url = f"https://127.0.0.1:{server.server_address[1]}"
    assert services.kms
    strangers: list[KeyService] = [
        TransitKeyService(url, private(tmp_path / "token", ROOT_TOKEN)),
        AwsKeyService(REGION, endpoint=url),
    ]
    try:
        for stranger in strangers:
            with pytest.raises(Unavailable) as told:
                stranger.seal("state", SECRET)
            assert "certificate that is not trusted" in told.value.hint
            stranger.close()
        assert asked == []
        trusted = TransitKeyService(url, tmp_path / "token", ca=tmp_path / "cert.pem")
        with suppress(VaultError):
            trusted.opens("state")
        trusted.close()
        assert asked == ["/v1/sys/capabilities-self"]
    finally:
        server.shutdown()
        server.server_close()


# --- a token -----------------------------------------------------------------------------------------------------------


def test_a_wrong_pin_is_tried_once_since_a_module_counts_them(services: Services, tmp_path: Path) -> None:
    label = f"pin{uuid4().hex[:8]}"
    module = services.module(label)
    pin = private(tmp_path / "pin", "0000")
    service = Pkcs11KeyService(module, label, pin)
    for _ in range(20):  # the module would lock the token before that
        with pytest.raises(Unavailable, match="PIN") as told:
            service.prepare(["state"])
        assert told.value.reason == AWAY
    private(pin, "471193")
    assert service.prepare(["state"]) == ["state"]
    service.close()


def test_a_token_that_is_not_there_is_an_outage_that_ends(services: Services, tmp_path: Path) -> None:
    label = f"late{uuid4().hex[:8]}"
    module = services.module(f"first{uuid4().hex[:8]}")
    service = Pkcs11KeyService(module, label, private(tmp_path / "pin", "471193"))
    with pytest.raises(Unavailable, match="no token"):
        service.seal("state", SECRET)
    services.module(label)
    service.prepare(["state"])
    sealed = service.seal("state", SECRET)
    service.close()
    assert service.unseal("state", sealed) == SECRET
    service.close()
