"""Requests of people, what was dropped, and the audit log. Behind the wall of staff: each handler names its right."""

from typing import Any, Final
from uuid import UUID

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from api import body as front
from api.guards import provide_actor, staff_only
from api.staff.wire import Find, Found, Opened
from vault.flows import browse
from vault.flows.find import find as find_subject
from vault.flows.honour import intake
from vault.flows.vault import Vault
from vault.policy.actors import Actor, Right

_NO_STORE: Final = {"cache-control": "no-store"}
Who = NamedDependency[Actor]
Door = NamedDependency[Vault]


@post("/subjects/find", status_code=200, summary="Find a person", right=Right.SUBJECT_FIND)
async def find(request: Request[Any, Any, Any], vault: Door, actor: Who) -> Found:
    """An opaque `ref` for the person of this identifier; it is bound to you and valid for an hour."""
    wanted = await front.read_own(request, Find)
    return Found(await find_subject(vault, actor, wanted.kind, wanted.value))


async def _open(
    request: Request[Any, Any, Any], vault: Vault, actor: Actor, ref: str, kind: intake.RequestType
) -> Opened:
    await front.read_nothing(request)
    return Opened(await intake.open_request(vault, actor, ref, kind))


@post("/subjects/{ref:str}/access", status_code=202, summary="Open an access request", right=Right.REQUEST_OPEN)
async def access(request: Request[Any, Any, Any], ref: FromPath[str], vault: Door, actor: Who) -> Opened:
    """Everything that Art. 15 GDPR asks for, as an archive."""
    return await _open(request, vault, actor, ref, "access")


@post("/subjects/{ref:str}/portability", status_code=202, summary="Open an export request", right=Right.REQUEST_OPEN)
async def portability(request: Request[Any, Any, Any], ref: FromPath[str], vault: Door, actor: Who) -> Opened:
    """What Art. 20 GDPR covers, as JSON and CSV in an archive."""
    return await _open(request, vault, actor, ref, "portability")


@post("/subjects/{ref:str}/erasure", status_code=202, summary="Open an erasure request", right=Right.REQUEST_OPEN)
async def erasure(request: Request[Any, Any, Any], ref: FromPath[str], vault: Door, actor: Who) -> Opened:
    """Art. 17 GDPR: keys destroyed, recipients told, a signed certificate at the end."""
    return await _open(request, vault, actor, ref, "erasure")


@get("/subjects/{ref:str}/consents", summary="See a person's choices", right=Right.CONSENTS_READ)
async def consents(ref: FromPath[str], vault: Door, actor: Who) -> Response[dict[str, Any]]:
    """The ledger and the state that it folds to."""
    return Response(await browse.consents(vault, actor, ref), headers=_NO_STORE)


@get("/subjects/{ref:str}/disclosures", summary="See who got what", right=Right.DISCLOSURES_READ)
async def disclosures(ref: FromPath[str], vault: Door, actor: Who) -> Response[dict[str, Any]]:
    """Every disclosure on record: recipient, fields, purpose, basis, time, transform."""
    return Response(await browse.disclosures(vault, actor, ref), headers=_NO_STORE)


@get("/requests/{request_id:uuid}", summary="See a request", right=Right.REQUEST_READ)
async def read_request(request_id: FromPath[UUID], vault: Door, actor: Who) -> Response[dict[str, Any]]:
    """Its state, its step, its legal clock, and what is still open."""
    return Response(await intake.read_request(vault, actor, request_id), headers=_NO_STORE)


@get(
    "/requests/{request_id:uuid}/archive",
    summary="Fetch the archive",
    right=Right.ARCHIVE_READ,
    media_type="application/zip",
)
async def archive(request_id: FromPath[UUID], vault: Door, actor: Who) -> Response[bytes]:
    """The answer to an access or export request, until it is fetched or seven days have passed."""
    content = await intake.fetch_archive(vault, actor, request_id)
    headers = {**_NO_STORE, "content-disposition": f'attachment; filename="request-{request_id}.zip"'}
    return Response(content, media_type="application/zip", headers=headers)


@get("/requests/{request_id:uuid}/certificate", summary="Fetch the certificate", right=Right.CERTIFICATE_READ)
async def certificate(request_id: FromPath[UUID], vault: Door, actor: Who) -> Response[dict[str, Any]]:
    """The latest revision of the erasure certificate, signed."""
    return Response(await intake.fetch_certificate(vault, actor, request_id), headers=_NO_STORE)


@get("/sources/{name:str}/dropped", summary="See what a source sent and was not stored", right=Right.DROPPED_READ)
async def dropped(name: FromPath[str], vault: Door, actor: Who) -> dict[str, Any]:
    """Counts by type, name and reason, and the policy line that would keep each."""
    return await browse.dropped(vault, actor, name)


@get(
    "/audit/checkpoint",
    summary="Read the signed head of the audit log",
    media_type="text/plain",
    right=Right.AUDIT_READ,
)
async def checkpoint(vault: Door) -> Response[str]:
    """A C2SP signed note: origin, size, root, signature."""
    return Response(await browse.audit_checkpoint(vault), media_type="text/plain", headers=_NO_STORE)


@get("/audit/entries/{entry_id:uuid}/proof", summary="Prove that an entry is in the log", right=Right.AUDIT_READ)
async def proof(entry_id: FromPath[UUID], vault: Door) -> dict[str, Any]:
    """The leaf, its index, and the hashes up to the root of the latest checkpoint (RFC 9162)."""
    return await browse.audit_proof(vault, entry_id)


@get("/audit/consistency", summary="Prove that one head continues another", right=Right.AUDIT_READ)
async def consistency(vault: Door, first: FromQuery[int], second: FromQuery[int]) -> dict[str, Any]:
    """The hashes that show the tree of size `second` to contain that of size `first` (RFC 9162)."""
    return await browse.audit_consistency(vault, first, second)


router = Router(
    "/v1",
    route_handlers=[
        find, access, portability, erasure, consents, disclosures, read_request, archive, certificate,
        dropped, checkpoint, proof, consistency,
    ],
    guards=[staff_only],
    dependencies={"actor": provide_actor},
    tags=["staff"],
)  # fmt: skip


@get(
    "/.well-known/profile-vault-keys.json", summary="The public keys that verify what the vault signed", tags=["public"]
)
async def public_keys(vault: Door) -> dict[str, Any]:
    """Ed25519 public keys by use and key id, with their validity. Open to everyone."""
    return browse.public_keys(vault)
