"""What holds for all contracts: each promise is broken by somebody, said in words, and shown by example."""

import inspect
import os
import re
import subprocess
import sys
import textwrap
from importlib import import_module

import pytest
from tests.unit.testing.broken import promises

from modelyard import testing

CONTRACTS = {name: getattr(testing, name) for name in testing.__all__}
EXAMPLE = re.compile(r"^::\n\n((?: {4}.*\n|\n)+)", re.MULTILINE)


def noun(name):
    return name.removesuffix("Contract").lower()


def example_of(contract):
    """Return the code of a contract's docstring."""
    return textwrap.dedent(EXAMPLE.search(inspect.getdoc(contract))[1])


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_promise_is_broken_by_a_wrong_provider(name):
    """Of each noun there is a test file whose tables are its parameters: what is in them is run."""
    module = import_module(f"tests.unit.testing.test_{noun(name)}_contract")
    assert promises(CONTRACTS[name]) == module.BROKEN_PROMISES


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_promise_is_said_in_a_sentence(name):
    for promise in sorted(promises(CONTRACTS[name])):
        said = inspect.getdoc(getattr(CONTRACTS[name], promise)) or ""
        assert re.match(r"\S.*\.$", said.splitlines()[0]), promise


@pytest.mark.parametrize("name", CONTRACTS)
def test_what_it_takes_is_explained(name):
    """Every attribute that a subclass may set, switches among them, is in the class's docstring."""
    contract, said = CONTRACTS[name], inspect.getdoc(CONTRACTS[name])
    attributes = {
        attribute
        for cls in contract.__mro__
        for attribute in inspect.get_annotations(cls)
        if not attribute.startswith("_")
    }
    subject = noun(name)
    assert attributes & {subject, f"{subject}_class"}
    missing = [each for each in attributes - {subject} if f"``{each}``" not in said]
    assert not missing
    switches = {each for each in attributes if isinstance(getattr(contract, each, None), bool)}
    assert {each for each in attributes if each.startswith("can_")} == switches


def test_the_examples_run_as_they_are(tmp_path):
    """Each in a file of its own, by a pytest that knows nothing of these tests."""
    for name, contract in CONTRACTS.items():
        # One promise of each: that they are all kept is shown in tests/contracts.
        (tmp_path / f"test_{noun(name)}.py").write_text(example_of(contract))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    chosen = "test_has_a_name or test_it_has_the_members or test_hooks_are_marked"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(CONTRACTS)} passed" in done.stdout


def test_the_public_names_are_imported_when_they_are_used():
    program = (
        "import sys, modelyard.testing as t; light = 'pytest' in sys.modules; "
        "print(light, *sorted(n for n in dir(t) if n.endswith('Contract')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", *testing.__all__]
    assert testing.__all__ == sorted(testing._HOMES)
    for name, home in testing._HOMES.items():
        assert getattr(testing, name) is getattr(import_module(home), name)
    with pytest.raises(AttributeError, match="module 'modelyard.testing' has no attribute 'CodecContrakt'"):
        testing.CodecContrakt  # noqa: B018 - the access is what is tested
