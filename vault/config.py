"""Settings, read once at start: `profile-vault.toml`, overridden by `PROFILE_VAULT_*` in the environment.

Promises: an unknown name is an error, so that a misspelt `JOURNAL` never falls back to a folder nobody backs up; what is
secret (the URLs of databases) shows a dull face. Reads no key and opens no database. Page: docs/reference/settings.md.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final

import msgspec

from vault.errors import ConfigError
from vault.key_settings import ServiceSettings, service_in, whole_number

FILE: Final = "profile-vault.toml"
PREFIX: Final = "PROFILE_VAULT_"
CONFIG: Final = "PROFILE_VAULT_CONFIG"  # another path of the file
NAMES: Final = (
    "data_dir",
    "database_url",
    "database_url_file",
    "keyring",
    "key_file",
    "key_service",
    "key_prefix",
    "transit_url",
    "transit_mount",
    "transit_token_file",
    "transit_ca_file",
    "kms_region",
    "kms_endpoint",
    "kms_deletion_days",
    "pkcs11_module",
    "pkcs11_token",
    "pkcs11_pin_file",
    "journal",
    "journal_url_file",
    "policies",
    "webhook_networks",
    "public_url",
    "processes",
    "source_rate",
    "lookup_rate",
    "staff_rate",
    "stranger_rate",
    "ingest_at_once",
    "reads_at_once",
    "desk_at_once",
    "database_connections",
    "sweep_rate",
    "data_backup_days",
    "keyring_backup_days",
)
# name -> (default, least, most). Rates are a second; docs/reference/limits.md says what each means and why.
NUMBERS: Final[dict[str, tuple[int, int, int]]] = {
    "processes": (1, 1, 1_000),
    "source_rate": (1_000, 1, 1_000_000),
    "lookup_rate": (100, 1, 1_000_000),
    "staff_rate": (50, 1, 1_000_000),
    "stranger_rate": (100, 1, 1_000_000),
    "ingest_at_once": (4, 1, 1_000),
    "reads_at_once": (4, 1, 1_000),
    "desk_at_once": (8, 1, 1_000),
    "database_connections": (24, 16, 1_000),
    "sweep_rate": (20, 0, 10_000),
}
# How long copies are kept before they are destroyed; 0: none are made. What is not told is taken to be a month.
DAYS: Final[dict[str, tuple[int, int, int]]] = {
    "data_backup_days": (30, 0, 36_500),
    "keyring_backup_days": (30, 0, 36_500),
}
_TEXTS: Final = frozenset(
    ("key_service", "key_prefix", "transit_url", "transit_mount", "kms_region", "kms_endpoint", "kms_deletion_days",
     "pkcs11_token")
)  # fmt: skip
SCHEMES: Final = ("postgresql://", "postgres://", "postgresql+asyncpg://")
ROOT_DATA_DIR: Final = Path("/var/lib/profile-vault/vault")
# Where browsers reach the vault; a name, not a place of whoever asked: no user, no query, no fragment
_PUBLIC: Final = re.compile(
    r"https?://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*/?"
)
_URL_LIMIT: Final = 4096  # bytes; a URL with many hosts has some hundreds

Network = IPv4Network | IPv6Network


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one process takes on. Rates are requests a second, of all `processes` together."""

    processes: int = NUMBERS["processes"][0]
    source_rate: int = NUMBERS["source_rate"][0]
    lookup_rate: int = NUMBERS["lookup_rate"][0]
    staff_rate: int = NUMBERS["staff_rate"][0]
    stranger_rate: int = NUMBERS["stranger_rate"][0]
    ingest_at_once: int = NUMBERS["ingest_at_once"][0]
    reads_at_once: int = NUMBERS["reads_at_once"][0]
    desk_at_once: int = NUMBERS["desk_at_once"][0]
    database_connections: int = NUMBERS["database_connections"][0]
    sweep_rate: int = NUMBERS["sweep_rate"][0]  # people a second; 0: none


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything lies. All paths are absolute."""

    data_dir: Path
    keyring: Path
    key_file: Path
    journal: Path | None  # None: in the database that `journal_url` names
    journal_url: str | None = None
    policies: Path | None = None  # None: none is set and none lies here; then the example shop's
    database_url: str | None = None  # None: the embedded server under `data_dir`
    webhook_networks: tuple[Network, ...] = ()
    public_url: str | None = None  # without a slash at its end; None: the address that a request came in on
    limits: Limits = Limits()
    service: ServiceSettings = ServiceSettings()
    data_backup_days: int = DAYS["data_backup_days"][0]
    keyring_backup_days: int = DAYS["keyring_backup_days"][0]

    @property
    def embedded(self) -> bool:
        """Whether the vault runs its own PostgreSQL."""
        return self.database_url is None

    @property
    def beside(self) -> bool:
        """Whether keyring or journal lie in the data folder, where one copy takes all: no protection against rollback."""
        places = [self.keyring, *([] if self.journal is None else [self.journal])]
        return any(path.is_relative_to(self.data_dir) for path in places)

    @property
    def journal_folder(self) -> Path:
        """The journal's folder, for what works on files. Raises `ConfigError` for one in a database."""
        if self.journal is None:
            raise ConfigError("the journal lies in a database, and this works on a journal in a folder only")
        return self.journal

    @property
    def memory(self) -> Path:
        """The folder of what the state audit saw last: the journal's; for one in a database, a folder in the data folder."""
        return self.data_dir / "seen" if self.journal is None else self.journal

    @property
    def journal_place(self) -> Path | str:
        """Where the journal lies: a folder, or the URL of a database, which is a secret."""
        place = self.journal if self.journal_url is None else self.journal_url
        if place is None:
            raise ConfigError("set journal: a folder, or the URL of a second PostgreSQL")
        return place

    def __repr__(self) -> str:
        return f"Settings(data_dir={self.data_dir}, embedded={self.embedded})"


def load(folder: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the file in `folder` (default: the current one; or where PROFILE_VAULT_CONFIG points) and `environ`.

    A relative path is taken from the folder of the file that names it, in the environment from the current one.
    Raises `ConfigError` naming the setting, never its value.
    """
    environ = os.environ if environ is None else environ
    here = (folder or Path.cwd()).absolute()
    named = environ.get(CONFIG)
    path = here / (named or FILE)
    if named and not path.is_file():
        raise ConfigError(f"{CONFIG} names a file that is not there")
    given = _placed(_file(path), path.parent) | _placed(_environment(environ), here)
    return _settings(given, here)


def _settings(given: Mapping[str, Any], here: Path) -> Settings:
    url = _url(given)
    journal_url = _journal_url(given)
    if url is not None and not ("keyring" in given and (journal_url or "journal" in given)):
        raise ConfigError(
            "with database_url, set keyring and journal too: beside a database that others back up they protect nothing"
        )
    data_dir = _folder(given.get("data_dir") or _default_data_dir())
    return Settings(
        data_dir=data_dir,
        database_url=url,
        keyring=_folder(given.get("keyring") or data_dir / "keyring"),
        # Outside the data folder, so that a copy of that folder opens nothing.
        key_file=_folder(given.get("key_file") or data_dir.with_name(data_dir.name + ".key")),
        journal=None if journal_url else _folder(given.get("journal") or data_dir / "journal"),
        journal_url=journal_url,
        policies=_policies(given.get("policies"), here),
        webhook_networks=_networks(given.get("webhook_networks", "")),
        public_url=_public_url(given.get("public_url")),
        limits=Limits(**{name: _number(name, given[name]) for name in NUMBERS if name in given}),
        service=service_in(given),
        **{name: _number(name, given[name]) for name in DAYS if name in given},
    )


def _file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    for name, value in content.items():
        if name not in NAMES:
            raise ConfigError(f"{path}: unknown setting {name}; known are {', '.join(NAMES)}")
        listed = name == "webhook_networks" and isinstance(value, list) and all(isinstance(one, str) for one in value)
        if name in NUMBERS or name in DAYS or name == "kms_deletion_days":
            if type(value) is not int:
                raise ConfigError(f"{path}: {name} must be a whole number")
        elif not (isinstance(value, str) or listed):
            raise ConfigError(f"{path}: {name} must be text")
    return content


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {PREFIX + name.upper(): name for name in NAMES}
    given = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable == CONFIG:
            continue
        if variable not in known:
            raise ConfigError(f"unknown variable {variable}; known are {', '.join(known)} and {CONFIG}")
        if value:
            given[known[variable]] = value
    return given


def _placed(given: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The same, with every path made absolute from `base`."""
    plain = {"database_url", "webhook_networks", "public_url", *NUMBERS, *DAYS, *_TEXTS}
    return {
        name: value if name in plain or (name == "journal" and "://" in value) else base / Path(value).expanduser()
        for name, value in given.items()
    }


def _url(given: Mapping[str, Any]) -> str | None:
    url, file = given.get("database_url"), given.get("database_url_file")
    if url and file:
        raise ConfigError("set database_url or database_url_file, not both")
    if file:
        return url_in(Path(file), "database_url_file")
    return _checked(url, "database_url") if url else None


def _journal_url(given: Mapping[str, Any]) -> str | None:
    """The URL of the journal's database; None for one in a folder."""
    place, file = given.get("journal"), given.get("journal_url_file")
    if place and file:
        raise ConfigError("set journal or journal_url_file, not both")
    if file:
        return url_in(Path(file), "journal_url_file")
    return _checked(place, "journal, if it is a URL,") if isinstance(place, str) else None


def url_in(file: Path, name: str) -> str:
    """The database URL in a file that `name` names. Raises `ConfigError`."""
    try:
        url = file.read_bytes()[:_URL_LIMIT].decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"the file that {name} names cannot be read") from None
    return _checked(url, f"what the file of {name} holds")


def _checked(url: str, name: str) -> str:
    if not url.startswith(SCHEMES):
        raise ConfigError(f"{name} must begin with one of {', '.join(SCHEMES)}")
    return url


def _networks(value: str | list[str]) -> tuple[Network, ...]:
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        return tuple(ip_network(name) for name in names)
    except ValueError:
        raise ConfigError("webhook_networks holds something that is not a network such as 10.1.0.0/16") from None


def _number(name: str, value: int | str) -> int:
    _, least, most = (NUMBERS | DAYS)[name]
    return whole_number(name, value, least, most)


def _public_url(value: str | None) -> str | None:
    if not value:
        return None
    if not _PUBLIC.fullmatch(value):
        raise ConfigError("public_url must be like https://vault.example.com, with a path at most: no user, no query")
    return value.rstrip("/")


def _default_data_dir() -> Path:
    if os.geteuid() == 0:  # the server's own user must be able to enter it (ADR 0030)
        return ROOT_DATA_DIR
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "profile-vault"


def _policies(named: Path | None, here: Path) -> Path | None:
    """The folder that is named, there or not: what decides must never be replaced by another. Else the one that lies here."""
    if named is not None:
        return _folder(named)
    return here / "policies" if (here / "policies").is_dir() else None


def _folder(path: Path) -> Path:
    return Path(os.path.normpath(path))
