"""Which class of doors a path belongs to. Load is shed by class, so that no class can take the room of another.

Promises: total (every path has a class), quick, and safe for what nobody classed: an unknown path counts as desk, which is
shed last. Knows paths only: what a body says is `api.admission`'s to look at.
"""

import re
from typing import Final

from api.admission import Door
from api.ingest.routes import TRACKING

_TRACKING: Final = frozenset("/v1" + path for paths in TRACKING.values() for path in paths) | {"/beacon/v1/batch"}
# `/v1/m` is read and forgotten: no work, so no slot that a slow sender could hold
_OPEN: Final = frozenset({"/livez", "/readyz", "/metrics", "/schema", "/.well-known/profile-vault-keys.json", "/v1/m"})
_READ: Final = ("/v1/destinations/", "/v1/spaces/", "/v1/projects/", "/v1/purposes", "/sourceConfig")
_SLASHES: Final = re.compile("/{2,}")  # as some clients of tracking write them; see `api.front`
_WAY_BACK: Final = ("/reports", "/acknowledgements")  # of destinations: what they say can only lower


def door_of(method: str, path: str) -> Door:
    """The class of a request, before anything of it is read."""
    path = _SLASHES.sub("/", path).rstrip("/") if "//" in path or path.endswith("/") else path
    if path in _TRACKING:
        return Door.OPEN if method == "OPTIONS" else Door.INGEST
    if path in _OPEN or path.startswith("/schema/") or method == "OPTIONS":
        return Door.OPEN
    if path.startswith(_READ) and not path.endswith(_WAY_BACK):
        return Door.READ
    return Door.DESK
