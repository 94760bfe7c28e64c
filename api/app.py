"""The HTTP application: every door, every wall, one table of errors. Built around a vault that is already open."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components
from litestar.types import ControllerRouterHandler

from api.destinations import routes as destinations
from api.guards import operator_only, provide_vault
from api.health import router as health
from api.ingest import routes as ingest
from api.metrics import Metrics
from api.observe import Observed
from api.openapi import SCHEMES, Document, DocumentYaml, no_page
from api.problems import EXCEPTION_HANDLERS
from api.staff import routes as staff
from vault.flows.vault import Vault

VERSION: Final = "1"  # of the HTTP interface: the /v1 in its paths
Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_app(vault: Vault) -> Litestar:
    """The application for a vault that the caller opened and will close."""
    return build(vault=vault)


# door -> its routes. The way back of destinations writes, so it is where the writers are.
DOORS: Final[dict[str, tuple[ControllerRouterHandler, ...]]] = {
    "ingest": (ingest.router, ingest.rudder, destinations.back),
    "feed": (destinations.router,),
    "desk": (staff.router, staff.public_keys),
}


def build(
    *, vault: Vault | None = None, lifespan: Sequence[Lifespan] = (), doors: Sequence[str] = tuple(DOORS)
) -> Litestar:
    """The application; a `lifespan` that opens the vault itself puts it into `app.state.vault`.

    A door that is not named is not there: its paths answer 404, like every path that does not exist.
    """
    metrics = Metrics()

    async def provide_metrics() -> Metrics:
        return metrics

    app = Observed(
        route_handlers=[*(handler for door in doors for handler in DOORS[door]), health],
        dependencies={"vault": Provide(provide_vault), "metrics": Provide(provide_metrics)},
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=list(lifespan),
        state=State({} if vault is None else {"vault": vault}),
        openapi_config=_openapi(),
        logging_config=None,  # Litestar's own would print tracebacks, and tracebacks print values
        debug=False,
    )
    app.metrics = metrics
    return app


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Profile Vault",
        version=VERSION,
        description="Errors are application/problem+json with a stable `code`; see docs/reference/errors.md.",
        components=Components(security_schemes=dict(SCHEMES)),
        openapi_router=Router("/schema", route_handlers=[], guards=[operator_only], after_request=no_page),
        # documents only: a page that loads scripts from elsewhere has no place here
        render_plugins=[Document(path=["/openapi.json", "/"]), DocumentYaml()],
    )
