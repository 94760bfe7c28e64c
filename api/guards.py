"""One wall per audience: who may pass to its handlers at all. A handler behind a wall that names no right is shut.

Promises: identity is asked anew for each request, nothing is cached; another destination's name and an unknown one look
the same (threats G12); the right is checked before the body is read.
"""

import ipaddress
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from api.auth import bearer, bearer_or_basic
from api.limits import identified, limits_of, noted
from vault.errors import Forbidden, Locked, NotFound, Unavailable
from vault.flows.admit import admit_destination, admit_staff
from vault.flows.failover import REPLACED
from vault.flows.lag import check_log
from vault.flows.vault import Vault
from vault.policy.actors import Actor, Right

Connection = ASGIConnection[Any, Any, Any, Any]


def vault_of(connection: Connection) -> Vault:
    """The vault that this application serves. Raises Locked while there is none, Unavailable while it is opened anew."""
    vault = connection.app.state.get("vault")
    if vault is None:
        raise closed(connection.app.state)
    if not isinstance(vault, Vault):
        raise TypeError("the application has no vault")
    return vault


def closed(state: State) -> Unavailable:
    """Why there is no vault now, without where anything is: that is told by /readyz."""
    if state.get("replaced") and not isinstance(state.get("locked"), Locked):
        return Unavailable(code=REPLACED)
    return Locked()


async def staff_only(connection: Connection, handler: BaseRouteHandler) -> None:
    """A member of staff whose role has the right that the handler names in its options."""
    vault = vault_of(connection)
    limits = limits_of(connection.app)
    secret = bearer(connection.headers.get("authorization"))
    actor = await identified(connection, secret, admit_staff(vault, secret))
    noted(connection, limits.staff(actor.id))
    right = handler.opt.get("right")
    if not isinstance(right, Right) or actor.role is None or not vault.staff_gate.allows(actor.role, right):
        raise Forbidden("The role of this credential does not include it; see staff/rules.csv in the policies.")
    connection.state["actor"] = actor


async def destination_only(connection: Connection, _handler: BaseRouteHandler) -> None:
    """The destination itself: the path's `name`, where there is one, must be the token's own."""
    vault = vault_of(connection)
    header = connection.headers.get("authorization")
    lookup = "name" not in connection.path_params  # Segment's paths name no destination; its clients send Basic
    limits = limits_of(connection.app)
    secret = bearer_or_basic(header) if lookup else bearer(header)
    found = await identified(connection, secret, admit_destination(vault, secret))
    if connection.scope.get("method") == "GET":
        await check_log(vault)  # no audit, no data; what a destination says of itself is taken all the same
    if lookup:
        noted(connection, limits.lookup(found))
    else:
        rate = vault.catalogue.contracts[found].rate
        noted(connection, limits.destination(found, rate, way_back=connection.scope.get("method") == "POST"))
    if not lookup and connection.path_params["name"] != found:
        raise Forbidden
    connection.state["destination"] = found


async def operator_only(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Loopback or a unix socket; from anywhere else there is nothing here."""
    client = connection.client
    if client is None:
        return
    try:
        loopback = ipaddress.ip_address(client.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise NotFound


async def provide_vault(request: Request[Any, Any, Any]) -> Vault:
    """For handlers: the vault."""
    return vault_of(request)


async def provide_actor(request: Request[Any, Any, Any]) -> Actor:
    """For handlers behind `staff_only`: who asks."""
    actor = request.state["actor"]
    if not isinstance(actor, Actor):
        raise TypeError("no actor: the handler is not behind its wall")
    return actor


async def provide_destination(request: Request[Any, Any, Any]) -> str:
    """For handlers behind `destination_only`: the name of the destination that asks."""
    return str(request.state["destination"])
