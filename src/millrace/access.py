"""Who may do what on the servers of an application: rights on its log, roles for its stores, as an administrator has to grant them.

Neighbours: the command line prints it; engines know how their servers spell it.
"""

from __future__ import annotations

from typing import Any

from millrace.application import Application
from millrace.clock import VirtualClock
from millrace.control import CONTROL
from millrace.errors import ConfigurationError
from millrace.rights import GuardedLog, GuardedStores, Needs, Right, Role
from millrace.timekeeping import CLOCK

PRINCIPAL = "User:{service}"
ROLE = "{service}"


def needs_of(app: Application) -> list[Needs]:
    """Return what each service of an application reads and writes; all of them use the topics of the toolkit itself."""
    called = {CONTROL.name, *([CLOCK.name] if isinstance(app.clock, VirtualClock) else [])}
    return [
        Needs(service.name, tuple(sorted(service.reads(app.catalogue) | called)), tuple(sorted(service.writes() | called)))
        for service in app.services
    ]


def rights_on_log(app: Application, *, principal: str = PRINCIPAL) -> list[Right]:
    """Return the rights that the users of an application's services need on its log.

    Args:
        app: the application; nothing is opened.
        principal: name of the user of a service; `{service}` stands for the service's name.

    Raises:
        ConfigurationError: the log has no users.
    """
    engine = _with(app.engine, "of_log", GuardedLog)
    if engine is None:
        raise ConfigurationError(f"the log of engine {app.engine.name!r} has no users with rights; its files have the system's")
    return engine.rights(needs_of(app), principal=principal)


def roles_for_stores(app: Application, *, role: str = ROLE) -> list[Role]:
    """Return a database role for the store of each service.

    Args:
        app: the application; nothing is opened.
        role: name of the role of a service; `{service}` stands for the service's name.

    Raises:
        ConfigurationError: the stores have no roles.
    """
    engine = _with(app.engine, "of_stores", GuardedStores)
    if engine is None:
        raise ConfigurationError(f"the stores of engine {app.engine.name!r} have no roles; their files have the system's rights")
    return engine.roles([service.name for service in app.services], role=role)


def _with(engine: Any, half: str, ability: Any) -> Any:
    """Return the engine that has an ability, itself or the half of it; None where there is none."""
    part = getattr(engine, half, engine)
    return part if isinstance(part, ability) else None


__all__ = ["PRINCIPAL", "ROLE", "needs_of", "rights_on_log", "roles_for_stores"]
