"""Makes ``docs/reference/hooks.md`` of the docstrings: ``python -m tests.docs.hooks_page`` writes it."""

from collections.abc import Iterator
from types import FunctionType

from tests.docs.hooks_and_nouns import REFERENCE, call, fields, heading, markdown, summary

from modelyard.core import hookspecs
from modelyard.core.contracts import Host, JobDescription
from modelyard.core.http import Request, Response
from modelyard.core.plans import ProviderRef, Resources, SourceCode, TrainingPlan

PAGE = REFERENCE / "hooks.md"
VALUES = (
    Resources,
    SourceCode,
    TrainingPlan,
    JobDescription,
    Host,
    ProviderRef,
    Request,
    Response,
)
FAMILIES = {
    "What exists": "register_",
    "Which one is taken": "select_",
    "What happens": "",
}

_HEAD = """# The hooks

A plugin is a module, or any object, with functions that are marked by `hookimpl` and have the names of
hooks. Its package names it in `pyproject.toml`:

```toml
[project.entry-points.modelyard]
acme = "acme_plugin"
```

Each example below is a whole plugin. While you try one out, register it by hand:
`PluginManager.discover().register(module)` (see [Write a codec in ten minutes](../how-to/add-a-codec.md)).

## The rules

* A hook may leave out arguments that it does not need, and take the others in any order.
* A marked function with the name of no hook turns the plugin off, with a suggestion of the name that was
  meant. `@hookimpl.options(optionalhook=True)` marks a hook that only some releases of modelyard have.
* Of several plugins the ones that were registered last are asked first for a choice;
  `@hookimpl.options(tryfirst=True)` and `trylast=True` change that. Wrappers of pluggy's are refused.
* Import what takes time (torch, your classes) inside the hook: listing what exists imports every plugin.
* `MODELYARD_CONTRACT = "{version}"` in the module says which version of this contract it was written for.
  A plugin for a newer one is turned off, with a message that says what to upgrade. The contract grows by
  additions: a hook may gain arguments and never loses one, and a new ability of a noun is a new, small
  Protocol, never a new required method. Whatever is to go is announced by a `DeprecationWarning` that
  names your plugin.

## What a plugin cannot do to others

A plugin that raises or exits, at its import or in a hook, or returns something else than it should, is
turned off or passed over alone. `modelyard plugins list` says why, and so does the error of whoever misses
what it provides. `MODELYARD_PLUGINS_DISABLED` leaves it out by name.

While a third party's plugin is imported, and while its `modelyard_register_...` hooks run, modelyard watches
what it does, and the list says it:

* what it prints to `sys.stdout` goes to stderr, so that it is never in the output of a command;
* what it replaces of modelyard's (what can be called, members of classes, constants), of the built-ins and of
  the hooks of `sys` is put back, except in modules that nobody had imported before it;
* an import that takes longer than a second is listed with its time, and one that has not ended after five
  is named on stderr while it still goes on: whoever asked for the plugins waits until it ends;
* a provider with the name of a built-in one is left out. Of two third parties' with the same name neither
  can be used, until one of them is uninstalled or disabled.

In a program with other threads, only what a plugin replaces by something of its own package is put back. The
rest may be another thread's, which is inside a `redirect_stdout` or a test's `patch`, say: it stays as it is
and is listed as "which may be another thread's", or not at all if it is `sys.stderr` or `sys.stdin`.

Nothing helps against

* `os._exit`, a crash of the interpreter, and output that is written to the file descriptor 1 itself or to
  `sys.__stdout__`;
* what the threads do that a plugin starts: they may print and go on when it is imported;
* what is changed and not replaced, a list or a dict of modelyard's, and what other libraries define;
* changes of `os.environ`, `sys.path`, the working directory, the handlers of signals and
  `warnings.filters`;
* a hook that hangs, prints or replaces something, if its name does not begin with `modelyard_register_`.

`MODELYARD_PLUGINS_AUTOLOAD=0`, which leaves all third parties out, shows whether it is one of them, and
`MODELYARD_PLUGINS_DISABLED` which one.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD.replace("{version}", _version()), *_families(), *_values()]) + "\n"


def hooks() -> dict[str, FunctionType]:
    """Return the hooks by their names, in the order of their definition."""
    mark = f"{hookspecs.PROJECT}_spec"
    return {name: each for name, each in vars(hookspecs).items() if hasattr(each, mark)}


def _version() -> str:
    from modelyard.core.contracts import CONTRACT_VERSION

    return CONTRACT_VERSION


def _families() -> Iterator[str]:
    left = hooks()
    for title, prefix in FAMILIES.items():
        yield from (f"## {title}", "")
        for name in [name for name in left if name.startswith(f"modelyard_{prefix}")]:
            hook = left.pop(name)
            yield from (f"### `{call(hook)}`", "", "```text", heading(hook), "```", "", summary(hook), "")


def _values() -> Iterator[str]:
    yield from ("## What they are given", "")
    yield markdown("Values are immutable, but for ``Request`` and ``Response``. ``print(plan)`` shows one.")
    for cls in VALUES:
        yield from ("", f"### `{cls.__name__}`", "", f"`{cls.__module__}.{cls.__qualname__}`. {summary(cls)}")
        yield from ("", *fields(cls))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
