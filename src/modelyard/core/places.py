"""Where jobs and endpoints are: the backend that a session stands for, or the one that knows the name."""

from collections.abc import Callable
from typing import TypeVar

import attrs

from modelyard.core.contracts import Backend
from modelyard.core.errors import InvalidPlanError, ModelyardError
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef

T = TypeVar("T")

LOCAL = "local"


@attrs.frozen
class Place:
    """A backend and the plugins that it comes from: what a session of SDK v2 says of itself.

    ``decides``: whether jobs and endpoints go there whatever their instance type.
    """

    backend: ProviderRef
    plugins: PluginManager | None = None
    decides: bool = False


def place_of(session: object) -> Place | None:
    """Return where a ``sagemaker_session`` is; None for none.

    Raises `InvalidPlanError` for what is no session of modelyard's.
    """
    if session is None or isinstance(session, Place):
        return session
    place = getattr(session, "place", None)
    if not isinstance(place, Place):
        raise InvalidPlanError(
            f"sagemaker_session is a {type(session).__module__}.{type(session).__name__}; give a "
            "modelyard.Session(boto_session=...) or a modelyard.local.LocalSession()"
        )
    return place


def found_anywhere(
    plugins: PluginManager,
    asked: ProviderRef | str | None,
    look: Callable[[Backend], T],
    missing: type[ModelyardError],
) -> T:
    """Return what `look` finds in the backend that was asked for; else in the first one that has it.

    The local backend is looked at first. Raises `missing` with what the others said where it is in
    none of them, and what `look` raises of a backend that was asked for.
    """
    if asked is not None:
        return look(plugins.backends.create(asked))
    said: list[str] = []
    for name in sorted(plugins.backends.names(), key=lambda name: (name != LOCAL, name)):
        try:
            return look(plugins.backends.create(name))
        except missing as error:
            said.append(str(error))
        except ModelyardError as error:
            said.append(f"the backend {name!r} was not asked: {error}")
    raise missing("; ".join(said))
