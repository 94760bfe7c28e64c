"""An officer or an operator asks whether an erasure left anything: the whole vault is read, and the certificate says so."""

from uuid import UUID

from vault.errors import Conflict, NotFound
from vault.flows.honour.certify import record_scan
from vault.flows.honour.steps import Taken, read
from vault.flows.residue.scan import everything
from vault.flows.residue.verdict import Report
from vault.flows.vault import Vault
from vault.rights.request import Step

DESTROYED = frozenset({Step.ROWS, Step.CERTIFY, Step.ANSWERS, Step.DONE})


async def scan_erasure(vault: Vault, request_id: UUID, *, record: bool) -> tuple[Report, int | None]:
    """What is left of the erased person, and the number of the revision that carries it.

    None: nothing is certified yet, or it was not to be recorded. Raises `NotFound` for what is no erasure, `Conflict` before
    its keys are destroyed.
    """
    request = await read(vault, request_id)
    if request.type != "erasure":
        raise NotFound
    if request.step not in DESTROYED:
        raise Conflict("The erasure has not destroyed the keys yet.", code="not_ready")
    report = await everything(vault, request_id, waiting=request.step != Step.DONE)
    if not record:
        return report, None
    try:
        return report, await record_scan(vault, await read(vault, request_id), report)
    except Taken:
        raise Conflict("The request moved on meanwhile; scan again.", code="retry") from None
