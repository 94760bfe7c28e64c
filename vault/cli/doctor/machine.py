"""The machine: interpreter, packages, folders, disk, core files, port. Reads and asks the kernel; writes nothing."""

import errno
import os
import re
import resource
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import httpx

from vault import durable
from vault.cli.doctor import handed
from vault.cli.doctor.finding import Finding, failed, ok, skipped, warning
from vault.config import Settings
from vault.errors import VaultError
from vault.key_settings import ServiceSettings

PACKAGE: Final = "profile-vault"
OLDEST_PYTHON: Final = (3, 11)
LITTLE: Final = 5 << 30  # bytes free below which somebody should look: some days of ingest of a small shop
TOO_LITTLE: Final = 512 << 20  # below this PostgreSQL may soon be unable to write its log, and then stops
ANSWERS: Final = "a vault answers"
MAX_SECRET: Final = 4096  # bytes of a token or PIN
PATIENCE: Final = 2.0  # seconds for a neighbour on this machine to answer
_NEED: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?:>=([0-9][0-9.]*))?")
_OTHERS: Final = 0o077


def python() -> Finding:
    """Is the interpreter new enough?"""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return failed("python", version, "install Python 3.11 or newer and make the environment anew")
    return ok("python", version)


def packages() -> Finding:
    """Is everything installed that the vault needs, and new enough?"""
    try:
        needs = [need for need in metadata.requires(PACKAGE) or [] if ";" not in need]  # the others belong to extras
    except metadata.PackageNotFoundError:
        return failed("packages", f"{PACKAGE} is not installed as a package", "make .venv/.demo, or pip install it")
    wrong = [found for need in needs if (found := _unmet(need))]
    if wrong:
        return failed("packages", "; ".join(wrong), "install requirements/base.txt anew: pip install -r")
    return ok("packages", f"{PACKAGE} {metadata.version(PACKAGE)} and the {len(needs)} packages that it needs")


def _unmet(need: str) -> str | None:
    match = _NEED.match(need)
    if match is None:
        return None
    try:
        version = metadata.version(match[1])
    except metadata.PackageNotFoundError:
        return f"{match[1]} is missing"
    return f"{match[1]} {version} is older than {match[2]}" if match[2] and _parts(version) < _parts(match[2]) else None


def _parts(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    numbers = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


# --- folders --------------------------------------------------------------------------------------------------------


def folders(settings: Settings) -> Iterator[Finding]:
    """Are the folders and the key file ours, and closed to others?"""
    if settings.embedded:
        yield _folder("data folder", settings.data_dir, 0o066 if os.geteuid() == 0 else _OTHERS)
    yield _folder("key store folder", settings.keyring, _OTHERS)
    if settings.journal is not None:
        yield _folder("journal folder", settings.journal, _OTHERS)
    if settings.service.kind != "local":
        yield from _service_files(settings.service)
    else:
        yield handed.key_folder(settings.key_file) if settings.key_file.is_dir() else key_file(settings)
    if settings.beside:
        remedy = "for real use put keyring and journal on another disk: PROFILE_VAULT_KEYRING and PROFILE_VAULT_JOURNAL"
        yield warning("rollback protection", "none: keyring or journal lie in the data folder", remedy)
    else:
        yield ok("rollback protection", "keyring and journal lie apart from the data folder")


def _folder(check: str, path: Path, closed: int) -> Finding:
    """`closed`: the bits that must not be set. A server's user must pass through the data folder of root (ADR 0030)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return skipped(check, f"{path} is not there yet", "the first start makes it")
    except OSError as error:
        return failed(check, f"{path}: {_why(error)}", "run this as the user that runs the vault")
    if not stat.S_ISDIR(status.st_mode):
        return failed(check, f"{path} is no folder", "move it away, or name another folder in the settings")
    if status.st_uid != os.geteuid():
        return failed(check, f"{path} belongs to another user", "run the vault, and this, as the user that owns it")
    if status.st_mode & closed:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return failed(check, f"{path} is open to others ({mode})", f"chmod 700 {path}; assume that others have read it")
    return ok(check, f"{path} is closed to others")


def _service_files(service: ServiceSettings) -> Iterator[Finding]:
    """Are the secrets for a key service that is elsewhere closed to others?"""
    for check, path in (("token file", service.transit_token_file), ("PIN file", service.pkcs11_pin_file)):
        if path is None:
            continue
        try:
            durable.read_private(path, MAX_SECRET)
        except FileNotFoundError:
            yield failed(check, f"{path} is missing", "put the secret there, readable by the vault's user only")
        except VaultError as error:
            yield failed(
                check, error.hint or f"{path} is too large", f"chmod 600 {path}; if others could read it, renew it"
            )
        else:
            yield ok(check, f"{path} is closed to others")


def key_file(settings: Settings) -> Finding:
    """Is the key file there, private, and outside what is backed up with the data?"""
    check, path = "key file", settings.key_file
    try:
        status = path.lstat()
    except FileNotFoundError:
        if settings.keyring.is_dir() and any(settings.keyring.iterdir()):
            return failed(check, f"{path} is missing", "find it, or its backup: without it the keys stay shut for good")
        return skipped(
            check, f"{path} is not there yet", "the first start makes it; keep a copy apart from all backups"
        )
    except OSError as error:
        return failed(check, f"{path}: {_why(error)}", "run this as the user that runs the vault")
    if not stat.S_ISREG(status.st_mode):
        return failed(check, f"{path} is no plain file", "put the file itself there, or the folder of `keys hand-out`")
    if status.st_uid != os.geteuid():
        return failed(check, f"{path} belongs to another user", "run the vault, and this, as the user that owns it")
    if status.st_mode & _OTHERS:
        return failed(check, f"{path} is open to others", f"chmod 600 {path}; if others could read it, rotate the keys")
    if path.is_relative_to(settings.data_dir):
        return warning(
            check, f"{path} lies in the data folder", "move it out: whoever copies the folder opens all of it"
        )
    return ok(check, f"{path} is closed to others")


# --- limits ---------------------------------------------------------------------------------------------------------


def disk(settings: Settings) -> Iterator[Finding]:
    """Is there room to go on?"""
    journal = [] if settings.journal is None else [settings.journal]
    places = [settings.keyring, *journal, *([settings.data_dir] if settings.embedded else [])]
    by_device = {path.stat().st_dev: path for path in map(_standing, places)}
    for path in by_device.values():
        check = f"disk at {path}"
        usage = shutil.disk_usage(path)
        found = f"{usage.free / (1 << 30):.1f} GB free of {usage.total / (1 << 30):.1f}"
        if usage.free < TOO_LITTLE:
            yield failed(check, found, "make room now: without it nothing can be acknowledged")
        elif usage.free < LITTLE:
            yield warning(check, found, "make room soon, or put data on a larger disk")
        else:
            yield ok(check, found)


def _standing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def core_files() -> Finding:
    """Would a crash write the keys in memory to a file?"""
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if soft == 0:
        return ok("core files", "off: every command switches them off for itself")
    found = "a crash of a process started here would write its memory, with keys, to a file"
    return warning(
        "core files", found, "ulimit -c 0 before `serve`; for a service LimitCORE=0, for a container --ulimit core=0"
    )


# --- the port -------------------------------------------------------------------------------------------------------


def port(host: str, number: int) -> Finding:
    """Is the port free, or is it a vault that has it?"""
    check = f"port {number}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _taken(check, host, number)
            return failed(check, f"{host}: {_why(error)}", "choose another: profile-vault serve --host --port")
    return ok(check, f"free on {host}")


def _taken(check: str, host: str, number: int) -> Finding:
    name = f"[{host}]" if ":" in host else host
    try:
        answer = httpx.get(f"http://{name}:{number}/livez", timeout=PATIENCE, trust_env=False)
    except (httpx.HTTPError, ValueError):
        answer = None
    if answer is not None and answer.status_code == httpx.codes.OK and answer.text.strip() == "ok":
        return ok(check, f"{ANSWERS} on {host}")
    return failed(check, f"something else listens on {host}", "stop it, or choose another: profile-vault serve --port")


def _why(error: OSError) -> str:
    return (error.strerror or "no answer").lower()
