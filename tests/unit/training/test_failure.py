import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from modelyard.core.handover import FAILURE_BYTES, clip
from modelyard.training import failure
from modelyard.training.supervisor import Outcome

CODE = Path("/opt/ml/code")


def said_of(stderr, *, exit_code=1, signal=0, stopped=False):
    return failure.reason("train.py", Outcome(exit_code, signal, stopped, stderr), CODE)


@pytest.fixture
def reason(tmp_path):
    """Run a script for real, and return what is said of its end."""

    def make(source, **files):
        for name, text in {"train": source, **files}.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        outcome = Outcome(done.returncode, 0, stopped=False, stderr_tail=done.stderr)
        return failure.reason("train.py", outcome, tmp_path)

    return make


def test_an_exception_with_the_line_that_raised_it(reason):
    assert (
        reason(
            """
        def load():
            raise ValueError("no data")
        load()
        """
        )
        == "train.py exited with code 1: ValueError: no data (train.py, line 3, in load)"
    )


def test_the_place_is_the_innermost_frame(reason):
    assert (
        reason("import network\nnetwork.build()\n", network="def build():\n    return {}['layers']\n")
        == "train.py exited with code 1: KeyError: 'layers' (network.py, line 2, in build)"
    )


def test_an_exception_without_a_message(reason):
    assert (
        reason("assert False")
        == "train.py exited with code 1: AssertionError (train.py, line 1, in <module>)"
    )


@pytest.mark.parametrize("how", ["raise RuntimeError('second')", "raise RuntimeError('second') from error"])
def test_of_chained_exceptions_the_one_that_ended_the_script(reason, how):
    source = f"try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    {how}\n"
    assert reason(source).endswith(": RuntimeError: second (train.py, line 4, in <module>)")


def test_of_a_message_of_many_lines_the_first(reason):
    assert reason("raise ValueError('first\\nsecond\\n\\nthird: more')").endswith(
        ": ValueError: first (train.py, line 1, in <module>)"
    )


def test_a_note_does_not_hide_the_exception(reason):
    source = "error = ValueError('bad')\nerror.add_note('a note: look here')\nraise error\n"
    assert reason(source).endswith(": ValueError: bad (train.py, line 3, in <module>)")


@pytest.mark.parametrize(
    ("source", "kind"),
    [("def (:\n", "SyntaxError"), ("if 1:\npass\n", "IndentationError"), ("x = '", "SyntaxError")],
)
def test_a_syntax_error_of_the_script_itself_has_no_traceback(reason, source, kind):
    said = reason(source)
    assert said.startswith(f"train.py exited with code 1: {kind}: ")
    assert said.endswith((" (train.py, line 1)", " (train.py, line 2)"))


def test_a_syntax_error_of_a_module(reason):
    assert reason("import network", network="x = 1\ndef (:\n").endswith(" (network.py, line 2)")


def test_a_missing_module(reason):
    assert reason("import a_module_that_is_not_there").endswith(
        ": ModuleNotFoundError: No module named 'a_module_that_is_not_there' (train.py, line 1, in <module>)"
    )


def test_of_an_exception_group_an_exception_that_is_in_it(reason):
    source = """
    def fail(kind):
        try:
            raise kind("inner")
        except kind as error:
            return error

    raise ExceptionGroup("many", [fail(ValueError), fail(TypeError)])
    """
    assert reason(source).endswith(": TypeError: inner (train.py, line 4, in fail)")


def test_an_exception_group_of_what_was_never_raised(reason):
    source = "raise ExceptionGroup('many', [ValueError('a'), TypeError('b')])"
    assert reason(source).endswith(
        ": ExceptionGroup: many (2 sub-exceptions) (train.py, line 1, in <module>)"
    )


def test_what_is_printed_after_the_traceback_does_not_hide_it(reason):
    source = "import atexit, os\natexit.register(os.write, 2, b'bye\\n')\nraise ValueError('bad')\n"
    assert reason(source).endswith(": ValueError: bad (train.py, line 3, in <module>)")


def test_a_recursion_error_is_short(reason):
    assert reason("def f():\n    f()\nf()\n").endswith("(train.py, line 2, in f)")


def test_an_error_of_a_data_loaders_worker():
    stderr = f"""\
Traceback (most recent call last):
  File "{CODE}/train.py", line 9, in <module>
    next(iter(loader))
  File "/site-packages/torch/_utils.py", line 1, in reraise
    raise exception
ValueError: Caught ValueError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "{CODE}/data.py", line 3, in __getitem__
    raise ValueError("bad sample")
ValueError: bad sample

"""
    assert said_of(stderr).endswith(": ValueError: bad sample (data.py, line 3, in __getitem__)")


def test_an_exit_code_alone(reason):
    assert reason("import sys; sys.exit(3)") == "train.py exited with code 3"


def test_an_exit_with_words(reason):
    assert (
        reason("import sys; sys.exit('no learning rate')") == "train.py exited with code 1: no learning rate"
    )


def test_an_argument_that_the_script_does_not_know(reason):
    said = reason("import argparse; argparse.ArgumentParser().parse_args(['--lr', '1'])")
    assert said == "train.py exited with code 2: train.py: error: unrecognized arguments: --lr 1"


def test_without_a_traceback_the_last_line_that_says_something():
    assert said_of("first\n  last  \n\n   \n") == "train.py exited with code 1: last"


def test_the_code_folder_is_left_out_also_behind_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    stderr = (
        f'Traceback (most recent call last):\n  File "{tmp_path}/real/train.py", line 1, in f\nOSError: x\n'
    )
    outcome = Outcome(1, 0, stopped=False, stderr_tail=stderr)
    assert failure.reason("train.py", outcome, tmp_path / "link").endswith(
        "OSError: x (train.py, line 1, in f)"
    )


def test_sigkill_hints_at_the_memory():
    assert said_of("", exit_code=137, signal=9) == "train.py was killed by SIGKILL (often: out of memory)"


def test_sigkill_of_a_job_that_was_stopped_does_not():
    assert said_of("", exit_code=137, signal=9, stopped=True) == "train.py was killed by SIGKILL"


def test_signals_by_name_and_else_by_number():
    assert said_of("", exit_code=139, signal=signal.SIGSEGV) == "train.py was killed by SIGSEGV"
    assert said_of("", exit_code=165, signal=37) == "train.py was killed by signal 37"


@pytest.mark.parametrize("pad", range(4))
def test_a_long_reason_is_cut_to_1024_bytes_at_a_characters_end(pad):
    said = said_of("x" * pad + "\U0001f600" * 2000)
    encoded = said.encode()
    assert FAILURE_BYTES - 4 < len(encoded) <= FAILURE_BYTES
    assert "\ufffd" not in said


def test_what_no_encoding_has_is_replaced():
    assert clip("a\ud800b") == "a?b"


def test_a_reason_is_recorded(tmp_path):
    assert failure.record(tmp_path / "failure", "it failed") == "it failed"
    assert (tmp_path / "failure").read_text() == "it failed"


def test_the_users_own_reason_is_kept_and_clipped_for_whoever_asks(tmp_path):
    (tmp_path / "failure").write_bytes(b"mine \xff" + b"x" * 2000)
    said = failure.record(tmp_path / "failure", "it failed")
    assert said.startswith("mine \ufffdxxx")
    assert len(said.encode()) == FAILURE_BYTES
    assert (tmp_path / "failure").read_bytes() == b"mine \xff" + b"x" * 2000


def test_an_empty_file_of_the_user_is_no_reason(tmp_path):
    (tmp_path / "failure").touch()
    assert failure.record(tmp_path / "failure", "it failed") == "it failed"
