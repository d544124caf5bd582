"""``modelyard plugins check``."""

import itertools
import json
import os
import select
import sys
import time
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from tests.processes import ends

from modelyard.cli import main
from modelyard.cli.plugins import checking as command
from modelyard.core.errors import DecodeError, EncodeError, ModelyardError
from modelyard.core.hookspecs import hookimpl
from modelyard.core.manager import PluginManager
from modelyard.testing import CodecContract, checking, promises
from modelyard.testing.checking import BROKEN, OK, SKIPPED, Task, check

BAD = """
import json, os, signal, subprocess, sys, time
from modelyard import hookimpl
from modelyard.core.errors import DecodeError, EncodeError

print("at import")

class Lying:
    "Text, of which the end is lost."

    name = "lying"
    media_types = ("application/x-lying",)

    def encode(self, value):
        if not isinstance(value, str):
            raise EncodeError("no text")
        return value.encode()

    def decode(self, body):
        print("reading")
        return body.decode("utf-8", "replace")[:-1]

class Deadly(Lying):
    "Text, whose reading ends the interpreter."

    name = "deadly"
    media_types = ("application/x-deadly",)

    def decode(self, body):
        if body == b"":
            os.kill(os.getpid(), signal.SIGKILL)
        return body.decode("utf-8", "replace")

class Stuck(Lying):
    "Text, whose writing may not end."

    name = "stuck"
    media_types = ("application/x-stuck",)

    def encode(self, value):
        if type(value) is object:
            with open(os.environ["BELOW"], "w") as file:
                print(subprocess.Popen(["sleep", "300"]).pid, file=file, flush=True)
            time.sleep(300)
        return super().encode(value)

class Demanding(Lying):
    "Needs an option."

    name = "demanding"
    media_types = ("application/x-demanding",)

    def __init__(self, level):
        pass

class Leaving(Lying):
    "Text, whose writing leaves a process behind."

    name = "leaving"
    media_types = ("application/x-leaving",)

    def encode(self, value):
        if type(value) is object:
            with open(os.environ["BELOW"], "wb", buffering=0) as pipe:
                pipe.write(b"started")
                subprocess.Popen(["sleep", "300"], stdout=pipe)
        return super().encode(value)

class Fatal(Lying):
    "Ends the interpreter, whatever it is to write."

    name = "fatal"
    media_types = ("application/x-fatal",)

    def encode(self, value):
        os._exit(3)

@hookimpl
def modelyard_register_codecs():
    return [Lying, Deadly, Stuck, Demanding, Leaving, *([Fatal] if "FATAL" in os.environ else [])]
"""


@pytest.fixture
def bad(installed):
    """Install codecs that break promises."""
    installed("bad-one", BAD)


def outcomes(verdicts):
    return {verdict.promise: verdict.outcome for verdict in verdicts}


# -- in processes ------------------------------------------------------------------------------


def test_a_verdict_a_promise(bad, capsys):
    assert main(["plugins", "check", "lying"]) == 1
    header, *lines, summary = capsys.readouterr().out.splitlines()
    assert header == "codec lying"
    assert "  ok       `encode` returns `bytes`, for every value" in lines
    broken = lines.index("  broken   `decode` accepts what `encode` wrote, and returns the same")
    assert lines[broken + 1] == r"           'text, größer\n' came back as 'text, größer'"
    skipped = lines.index(
        "  skipped  An `ArrayCodec` returns an array of the dtype that it is asked for, float32 by default"
    )
    assert "lying is not an ArrayCodec" in lines[skipped + 1]
    assert lines[skipped + 2].startswith("  skipped  `decode_array`")  # For the same reason.
    assert summary.startswith("codec lying: ")
    assert "broken" in summary


def test_an_interpreter_that_ends_breaks_one_promise(bad, capfd):
    assert main(["plugins", "check", "codec", "deadly", "--json"]) == 1
    (result,) = json.loads(capfd.readouterr().out)
    assert (result["kind"], result["name"]) == ("codec", "deadly")
    (broken,) = [promise for promise in result["promises"] if promise["outcome"] == BROKEN]
    assert broken["promise"] == "test_any_bytes_decode_or_raise_decode_error"
    assert broken["reason"].startswith("the interpreter ended by SIGKILL")
    names = [promise["promise"] for promise in result["promises"]]
    assert len(names) == len(set(names))
    assert {name for name in dir(CodecContract) if name.startswith("test_")} == set(names)


def test_a_promise_that_does_not_end_breaks(bad, tmp_path, monkeypatch):
    """Its time is over once it hangs: the clock does not say how fast this machine is."""
    below, clock = tmp_path / "below", SimpleNamespace(ahead=0)
    monkeypatch.setenv("BELOW", str(below))

    def look(*arguments):
        hangs = read(below).endswith("\n")
        found = select.select(*arguments)
        if hangs and not found[0]:  # What was said before that has been read.
            clock.ahead = 1000
        return found

    monkeypatch.setattr(checking, "select", SimpleNamespace(select=look))
    monkeypatch.setattr(checking, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + clock.ahead))
    verdicts = list(check(Task("codec", "stuck", timeout=60)))
    reasons = {verdict.promise: verdict.reason for verdict in verdicts if verdict.outcome == BROKEN}
    assert reasons["test_unencodable_values_raise_encode_error"] == "not ended after 60 s"
    assert outcomes(verdicts)["test_threads_do_not_disturb_each_other"] == OK  # It comes after that.
    assert ends(int(read(below)))


def test_what_was_said_in_time_counts_though_it_is_read_late(tmp_path, monkeypatch):
    process = checking._Process(Task("codec", "csv", timeout=1.0), tmp_path)
    process._process.wait(60)
    hours = itertools.count(0, 3600)
    monkeypatch.setattr(checking, "time", SimpleNamespace(monotonic=lambda: next(hours)))
    verdicts = list(process.verdicts())
    process.end()
    assert {verdict.outcome for verdict in verdicts} <= {OK, SKIPPED}
    assert process._said_all


def read(path):
    return path.read_text() if path.exists() else ""


def test_a_codec_that_writes_nothing_and_ends_the_interpreter_breaks_promise_by_promise(bad, monkeypatch):
    monkeypatch.setenv("FATAL", "1")
    found = []
    for verdict in check(Task("codec", "fatal", timeout=30)):
        found.append(verdict)
        if sum(each.outcome == BROKEN for each in found) == 2:
            break
    first, second = (each for each in found if each.outcome == BROKEN)
    assert first.reason == second.reason == "the interpreter ended with status 3: at import"
    assert first.promise != second.promise
    assert outcomes(found)["test_its_media_types_are_essences"] == OK


def test_no_process_is_left_at_a_usual_end(bad, tmp_path, monkeypatch):
    """What was left behind has the pipe open: that the pipe ends is how its end is seen."""
    below = tmp_path / "below"
    os.mkfifo(below)
    monkeypatch.setenv("BELOW", str(below))
    pipe = os.open(below, os.O_RDONLY | os.O_NONBLOCK)
    try:
        verdicts = list(check(Task("codec", "leaving", timeout=30)))
        assert outcomes(verdicts)["test_unencodable_values_raise_encode_error"] == OK
        assert os.read(pipe, 4096) == b"started"
        assert select.select([pipe], [], [], 20)[0], "a process still has the pipe"
        assert os.read(pipe, 4096) == b""
    finally:
        os.close(pipe)


def test_what_cannot_be_made_has_a_verdict(bad):
    (verdict,) = check(Task("codec", "demanding"))
    assert verdict.outcome == BROKEN
    assert verdict.reason.startswith("it cannot be made: codec 'demanding' is not made without options")
    assert "--options" in verdict.reason


def test_a_plugin_is_checked_with_all_that_it_provides(bad, monkeypatch):
    asked = SimpleNamespace(
        kind=None,
        name="bad-one",
        options=None,
        uri=None,
        for_real=False,
        instance_type=None,
        contract=None,
        timeout=60,
    )
    tasks = command.tasks_of(PluginManager.discover(), asked)
    names = [(task.kind, task.name) for task in tasks]
    assert names == [
        *[("plugin", "bad-one"), ("codec", "lying"), ("codec", "deadly")],
        *[("codec", "stuck"), ("codec", "demanding"), ("codec", "leaving")],
    ]
    found = outcomes(check(tasks[0]))
    assert found["test_prints_nothing"] == BROKEN
    assert found["test_registers_alone"] == OK
    assert found["test_observers_take_everything"] == SKIPPED


def test_an_option_that_there_is_not(capsys):
    assert main(["plugins", "check", "csv", "--options", '{"strct": 1}']) == 1
    assert "codec 'csv' has no option 'strct'; did you mean 'strict'?" in capsys.readouterr().err


def test_the_authors_own_tests(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_tests.py").write_text(
        "from modelyard.serializers.text import TextCodec\n"
        "from modelyard.testing import CodecContract\n\n"
        "class TestMine(CodecContract):\n"
        "    codec = TextCodec()\n"
        "    values = ('text',)\n"
        "    malformed = (b'text',)\n\n"
        "    def test_of_mine(self):\n"
        "        assert 1 + 1 == 2\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "check", "text", "--contract", "own_tests:TestMine"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "  ok       of mine" in lines
    assert "           decode must raise DecodeError for b'text'" in lines


# -- what is wrong with the command ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cvs"], "no provider and no plugin is called 'cvs'; did you mean 'csv'?"),
        (["csv", "--uri", "s3://bucket"], "--uri is for a storage, which 'csv' is not"),
        (["csv", "--instance-type", "local"], "--instance-type is for a backend, which 'csv' is not"),
        (["csv", "--options", "["], "--options is no JSON"),
        (["csv", "--options", "[1]"], "--options takes options by name"),
        (["serializers", "--options", "{}"], "--options are those of one provider"),
        (
            ["sagemaker", "--run"],
            "the backend 'sagemaker' offers ml.*: say what to run on with --instance-type",
        ),
    ],
)
def test_what_goes_with_nothing_is_said_before_anything_runs(plugins, capsys, arguments, said):
    assert main(["plugins", "check", *arguments]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"modelyard: {said}")


def test_without_pytest_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["plugins", "check", "csv"]) == 1
    assert "pip install 'modelyard[test]'" in capsys.readouterr().err


def test_a_plugin_that_failed_is_not_checked(installed, capsys):
    installed("broken-one", "import a_module_that_is_absent")
    assert main(["plugins", "check", "broken-one"]) == 1
    assert "plugin 'broken-one' has failed: ModuleNotFoundError" in capsys.readouterr().err


# -- what a contract is made of ----------------------------------------------------------------


def contract(kind, name, **task):
    return promises.contract_of(Task(kind, name, **task))


def tried(name):
    """Return the types of what a codec is tried with."""
    values = contract("codec", name)().values
    return {type(value).__name__ for value in values}


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("npy", {"ndarray", "list"}),
        ("json", {"ndarray", "list", "str", "dict"}),
        ("csv", {"ndarray", "list"}),
        ("npz", {"ndarray", "list", "dict"}),
        ("text", {"str"}),
        ("octet-stream", {"bytes"}),
    ],
)
def test_a_codec_is_tried_with_what_it_encodes(plugins, name, types):
    assert tried(name) == types


def test_a_guarded_codec_is_tried_where_it_is_trusted(plugins):
    with pytest.raises(pytest.skip.Exception, match="trusted"):
        _ = contract("codec", "pickle")().values
    assert contract("codec", "pickle", options={"trusted": True})().values


@attrs.frozen
class OneWay:
    """Writes numbers, and reads nothing."""

    name = "one-way"
    media_types = ("application/x-one-way",)

    def encode(self, value):
        try:
            return np.asarray(value, float).tobytes()
        except (TypeError, ValueError) as error:
            raise EncodeError("no numbers") from error

    def decode(self, body):
        raise DecodeError("it only writes")


@attrs.frozen
class Exotic(OneWay):
    """Writes nothing that anybody has."""

    name = "exotic"

    def encode(self, value):
        raise EncodeError("not exotic enough")


@pytest.fixture
def unusual(plugins, monkeypatch):
    plugin = SimpleNamespace(modelyard_register_codecs=hookimpl(lambda: [OneWay, Exotic]))
    plugins.register(plugin, "unusual")
    monkeypatch.setattr(PluginManager, "discover", lambda: plugins)


def test_a_codec_that_refuses_all_that_it_wrote_only_encodes(unusual):
    assert not contract("codec", "one-way")().can_decode
    assert contract("codec", "exotic")().can_decode
    with pytest.raises(pytest.skip.Exception, match="--contract"):
        _ = contract("codec", "exotic")().values


def test_a_launcher_runs_where_its_program_is(plugins, monkeypatch):
    assert contract("launcher", "process").can_run
    monkeypatch.setattr(promises, "find_spec", lambda name: None)
    assert not contract("launcher", "torchrun").can_run


def test_a_storage_writes_below_what_is_given(plugins, tmp_path):
    here = contract("storage", "file")().root_uri(tmp_path)
    assert here == (tmp_path / "root").as_uri()
    there = contract("storage", "file", uri="file:///below/")().root_uri(tmp_path)
    assert there == f"file:///below/{tmp_path.parent.parent.name}/{tmp_path.name}"
    with pytest.raises(pytest.skip.Exception, match="--uri"):
        contract("storage", "s3")().root_uri(tmp_path)


def test_a_backend_is_tried_on_what_it_offers(plugins):
    assert promises._offered(("ml.*", "gpu-[0-9]", "mine")) == "mine"
    assert promises._offered(("gpu-[0-9].?",)) == "gpu-x.x"
    assert promises._offered(()) == ""
    assert contract("backend", "local").instance_type == "local"
    assert contract("backend", "sagemaker").instance_type == "ml.x"
    assert contract("backend", "local", instance_type="local_gpu").instance_type == "local_gpu"
    made = contract("backend", "local", options={"port": 1}).backend_class
    assert (made().port, made(port=2).port, made.name) == (1, 2, "local")


@pytest.mark.parametrize("name", ["nothing:Test", "json:dumps", "json:Absent"])
def test_a_contract_that_there_is_not(plugins, monkeypatch, name):
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(ModelyardError, match=f"--contract {name}"):
        contract("codec", "csv", contract=name)


def test_promises_are_told_in_the_words_of_their_tests():
    class Tests:
        def test_one(self):
            """``encode`` (RFC 3986) writes; see below.

            More of it.
            """

        def test_two(self):
            """It is v1.0 of it. And more."""

        def test_without_words(self):
            pass

    def text(name, shown=None):
        return promises.text_of(SimpleNamespace(name=shown or name, obj=getattr(Tests(), name)))

    assert text("test_one") == "`encode` (RFC 3986) writes; see below"
    assert text("test_two", "test_two[True]") == "It is v1.0 of it (True)"
    assert text("test_without_words") == "without words"


def test_reasons_are_of_one_line():
    assert promises._reason(AssertionError("a\n  b")) == "a b"
    assert promises._reason(KeyError("a")) == "KeyError: 'a'"
    assert promises._reason(AssertionError()) == "a check of its test failed"
    assert len(promises._reason(AssertionError("a" * 9999))) < 700
