"""A folder of secrets that `keys hand-out` made: is each of them one, private, and what may a process do that holds it?"""

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from vault.cli.doctor.finding import Finding, failed, ok
from vault.crypto.services.local import PUBLIC_FILE, SECRET_FILE, LocalKeyService
from vault.errors import ConfigError
from vault.keys.names import purpose_of
from vault.keys.roles import CHANGES, DOORS, DUTIES, DUTIES_OF, ProcessRole

CHECK: Final = "key file"
_OTHERS: Final = 0o077


def key_folder(folder: Path) -> Finding:
    """Reads each secret as a process would. Names locks and roles, no key."""
    if folder.stat().st_uid != os.geteuid():
        return failed(CHECK, f"{folder} belongs to another user", "run the vault, and this, as the user that owns it")
    try:
        paths = sorted(folder.iterdir())
        for path in paths:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or path.suffix not in {SECRET_FILE, PUBLIC_FILE}:
                return failed(CHECK, f"{path} is no secret of `keys hand-out`", "take it out of that folder")
            if status.st_uid != os.geteuid():
                return failed(CHECK, f"{path} belongs to another user", f"chown it to the user of {folder}")
            if status.st_mode & _OTHERS:
                remedy = f"chmod 600 {path}; if others could read it, rotate the keys"
                return failed(CHECK, f"{path} is open to others", remedy)
            LocalKeyService.check_secret(path)
        LocalKeyService.from_folder(folder)
    except ConfigError as error:
        return failed(CHECK, error.hint, "hand out into an empty folder: profile-vault keys hand-out FOLDER …")
    except OSError as error:
        remedy = "run this as the user that runs the vault"
        return failed(CHECK, f"{folder}: {(error.strerror or 'no answer').lower()}", remedy)
    secrets = {path.name.removesuffix(SECRET_FILE) for path in paths if path.suffix == SECRET_FILE}
    publics = {path.name.removesuffix(PUBLIC_FILE) for path in paths if path.suffix == PUBLIC_FILE}
    return ok(CHECK, f"{folder} holds {len(paths)} secrets, closed to others: {role_held(secrets, publics)}")


def role_held(secrets: Collection[str], publics: Collection[str]) -> str:
    """The doors and duties for which these secrets are enough, and the purposes whose keys they open."""
    doors = [door for door in DOORS if _enough(ProcessRole((door,), ()), secrets, publics)]
    with_doors = {duty for door in doors for duty in DUTIES_OF[door]} | {CHANGES}  # which needs no key of its own
    duties = [one for one in DUTIES if one not in with_doors and _enough(ProcessRole((), (one,)), secrets, publics)]
    purposes = sorted(number for name in secrets if (number := purpose_of(name)) is not None)
    roles = [f"doors {', '.join(doors)}"] if doors else []
    roles += [f"duties {', '.join(duties)}"] if duties else []
    held = f"purposes {', '.join(map(str, purposes))}" if purposes else "no purpose"
    return f"enough for {' and '.join(roles) or 'the duty changes only'}, with the keys of {held}"


def _enough(role: ProcessRole, secrets: Collection[str], publics: Collection[str]) -> bool:
    opened, sealed = role.locks(())
    return opened <= {*secrets} and sealed <= {*secrets, *publics}
