"""What several contracts ask, in the same words."""

from collections.abc import Callable, Mapping

from modelyard.core.errors import ModelyardError
from modelyard.core.kinds import NAME


def is_a_name(name: object) -> None:
    """Check that a provider can be called so: a manager takes no other."""
    assert isinstance(name, str), f"the name must be text, not {name!r}"
    assert NAME.fullmatch(name), f"the name is not a plain lower-case word: {name!r}"


def maps_text_to_text(what: str, variables: Mapping[str, object]) -> None:
    """Check variables of an environment."""
    wrong = {k: v for k, v in variables.items() if not isinstance(k, str) or not isinstance(v, str)}
    assert not wrong, f"{what} must map text to text, not {wrong!r}"


def refused(call: Callable[[], object], wanted: type[ModelyardError], what: str) -> ModelyardError:
    """Return the error that `call` raises, which must be of the kind that is `wanted`."""
    try:
        answer = call()
    except wanted as error:
        return error
    except Exception as error:
        raise AssertionError(f"{what} must raise {wanted.__name__}, not {error!r}") from error
    raise AssertionError(f"{what} must raise {wanted.__name__}, not return {answer!r}")
