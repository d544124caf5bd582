"""Values against the shapes of botocore's service models: stricter than the client, as the service is."""

import re
from functools import cache

from botocore.loaders import Loader
from botocore.model import ServiceModel

_TYPES = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
    "structure": dict,
    "map": dict,
    "list": list,
}


@cache
def service(name):
    """Return the model of a service, as boto3 has it."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def faults(shape, value, where=""):
    """Yield what is wrong with a value: types, unknown and missing members, limits, patterns, choices."""
    kind = _TYPES[shape.type_name]
    if not isinstance(value, kind) or (isinstance(value, bool) and shape.type_name != "boolean"):
        yield f"{where or shape.name} must be a {shape.type_name}, not {value!r}"
        return
    yield from _limits(shape, value, where)
    if shape.type_name == "structure":
        yield from _members(shape, value, where)
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from faults(shape.member, item, f"{where}[{index}]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from faults(shape.key, key, f"{where}.{key} (its key)")
            yield from faults(shape.value, item, f"{where}.{key}")


def _members(shape, value, where):
    for name in shape.required_members:
        if name not in value:
            yield f"{where}.{name} is missing"
    for name, item in value.items():
        if name not in shape.members:
            yield f"{where}.{name} is unknown"
        else:
            yield from faults(shape.members[name], item, f"{where}.{name}")


def _limits(shape, value, where):
    size = value if isinstance(value, (int, float)) else len(value)
    limits = shape.metadata
    if "min" in limits and size < limits["min"]:
        yield f"{where} is less than {limits['min']}: {value!r}"
    if "max" in limits and size > limits["max"]:
        yield f"{where} is more than {limits['max']}: {value!r}"
    if isinstance(value, str):
        if shape.enum and value not in shape.enum:
            yield f"{where} is none of {shape.enum[:5]}...: {value!r}"
        if (pattern := _compiled(limits.get("pattern", ""))) and not pattern.fullmatch(value):
            yield f"{where} does not match {pattern.pattern}: {value!r}"


@cache
def _compiled(pattern):
    try:
        return re.compile(pattern, re.DOTALL) if pattern else None
    except re.error:
        return None  # Java's \p{L} and the like.
