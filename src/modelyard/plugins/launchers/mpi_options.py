"""The user's own options for mpirun: in the words of the one that there is, and in place of ours."""

from collections.abc import Callable, Iterable

_SAME = {
    # Open MPI
    **dict.fromkeys(("H", "hostfile", "machinefile"), "host"),
    **dict.fromkeys(("N", "npernode", "npersocket"), "map-by"),
    # MPICH
    **dict.fromkeys(("f", "machine", "machines"), "hosts"),
    **dict.fromkeys(("genvall", "genvlist"), "genvnone"),
    "bootstrap": "launcher",
    "bootstrap-exec": "launcher-exec",
}
"""Options that say in another way what an option of ours says: mpirun takes one of the two."""

_NCCL_DEBUG = "NCCL_DEBUG"


def without(theirs: tuple[str, ...], ours: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the words of `ours`, options and parameters with their values, less what `theirs` sets.

    mpirun refuses what is given twice, joins the two, or takes the wrong one: which, depends on the option.
    """
    set_by_them = {_name(word) for word in theirs}
    # Of `--mca NAME VALUE` the parameter's name counts.
    return tuple(word for option in ours if _name(option[-2:][0]) not in set_by_them for word in option)


def _name(word: str) -> str:
    """Return an option with one dash, by our name for it; of anything else, the word."""
    if not word.startswith("-"):
        return word
    name = word.lstrip("-").partition("=")[0]
    return f"-{_SAME.get(name, name)}"


def translated(theirs: tuple[str, ...], variable: Callable[[str, str], tuple[str, ...]]) -> tuple[str, ...]:
    """Return the options, with SageMaker's ``--NCCL_DEBUG LEVEL`` as what sets the `variable`."""
    found: list[str] = []
    words = iter(theirs)
    for word in words:
        option, equals, level = word.partition("=")
        if option == f"--{_NCCL_DEBUG}":
            found += variable(_NCCL_DEBUG, level if equals else next(words))
        else:
            found.append(word)
    return tuple(found)
