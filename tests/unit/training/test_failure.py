import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from modelyard.core.contracts import RankFailure
from modelyard.core.handover import FAILURE_BYTES, clip
from modelyard.core.layout import JobLayout
from modelyard.training import failure
from modelyard.training.supervisor import Outcome
from modelyard.training.tails import Said

CODE = Path("/opt/ml/code")

REPORT = """\
Traceback (most recent call last):
  File "/usr/bin/torchrun", line 8, in <module>
    sys.exit(main())
  File "/site-packages/torch/distributed/launcher/api.py", line 300, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
  exitcode  : 1 (pid: 12)
============================================================
"""


def words(*texts, began=1000.0, ended=None, rank=None, host=""):
    """What a process said, a text each second."""
    pieces = tuple((began + number, text) for number, text in enumerate(texts))
    return Said(pieces, began + len(texts) if ended is None else ended, rank, host)


def said_of(stderr, *, exit_code=1, signal=0, stopped=False):
    return failure.reason("train.py", Outcome(exit_code, signal, stopped, words(stderr)), CODE)


def raised(what, *, file="train.py", line=3):
    return f'Traceback (most recent call last):\n  File "{CODE}/{file}", line {line}, in f\n    x\n{what}\n'


def of_ranks(*ranks, exit_code=1, stderr=REPORT, first=None):
    return failure.reason(
        "train.py", Outcome(exit_code, 0, stopped=False, stderr=words(stderr), ranks=ranks), CODE, first
    )


@pytest.fixture
def reason(tmp_path):
    """Run a script for real, and return what is said of its end."""

    def make(source, **files):
        for name, text in {"train": source, **files}.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        outcome = Outcome(done.returncode, 0, stopped=False, stderr=words(done.stderr))
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


@pytest.mark.parametrize(
    ("how", "link"),
    [
        ("raise RuntimeError('second')", "while handling"),
        ("raise RuntimeError('second') from error", "caused by"),
    ],
)
def test_of_chained_exceptions_the_one_that_ended_the_script_and_what_it_follows(reason, how, link):
    source = f"try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    {how}\n"
    assert reason(source).endswith(
        ": RuntimeError: second (train.py, line 4, in <module>); "
        f"{link} ZeroDivisionError: division by zero (train.py, line 2, in <module>)"
    )


def test_an_exception_that_was_logged_before_is_not_what_it_follows(reason):
    source = """
    import traceback
    try:
        1 / 0
    except ZeroDivisionError:
        traceback.print_exc()
    raise ValueError("bad")
    """
    assert reason(source).endswith(": ValueError: bad (train.py, line 7, in <module>)")


def test_of_a_message_of_many_lines_all_that_there_is_room_for(reason):
    said = reason("raise ValueError('first\\nsecond\\n\\n  third: more\\n' + 'x' * 2000)")
    assert said.startswith(
        "train.py exited with code 1: ValueError: first (train.py, line 1, in <module>)\n"
        "second\n\n  third: more\nxxx"
    )
    assert len(said) == FAILURE_BYTES


def test_a_long_message_does_not_hide_the_place(reason):
    said = reason("raise ValueError('\U0001f600' * 2000)")
    assert said.endswith("... (train.py, line 1, in <module>)")
    assert FAILURE_BYTES - 4 < len(said.encode()) <= FAILURE_BYTES


def test_a_note_does_not_hide_the_exception(reason):
    source = "error = ValueError('bad')\nerror.add_note('a note: look here')\nraise error\n"
    assert reason(source).endswith(": ValueError: bad (train.py, line 3, in <module>)\na note: look here")


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
    assert reason(source).endswith(": ValueError: bad (train.py, line 3, in <module>)\nbye")


def test_an_exception_in_colours():
    text = (
        raised("ValueError: bad")
        .replace("ValueError", "\x1b[1;35mValueError\x1b[0m")
        .replace("File", "\x1b[1mFile\x1b[0m")
    )
    assert said_of(text).endswith(": ValueError: bad (train.py, line 3, in f)")


def test_a_line_of_another_thread_inside_a_traceback():
    text = raised("ValueError: bad").replace("    x\n", "    x\n2026-01-01 12:00 INFO step 3\n")
    assert said_of(text).endswith(": ValueError: bad (train.py, line 3, in f)")


def test_an_exception_of_a_class_inside_a_function(reason):
    source = "def f():\n    class Bad(Exception): pass\n    raise Bad('x')\nf()\n"
    assert reason(source).endswith("f.<locals>.Bad: x (train.py, line 3, in f)")


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
    outcome = Outcome(1, 0, stopped=False, stderr=words(stderr))
    assert failure.reason("train.py", outcome, tmp_path / "link").endswith(
        "OSError: x (train.py, line 1, in f)"
    )


def test_sigkill_hints_at_the_memory():
    assert said_of("", exit_code=137, signal=9) == "train.py was killed by SIGKILL (often: out of memory)"


def test_sigkill_of_a_job_that_was_stopped_does_not():
    assert said_of("", exit_code=137, signal=9, stopped=True) == "train.py was killed by SIGKILL"


def test_sigkill_of_the_rank_that_failed_first_does_though_its_host_is_stopped_meanwhile():
    """Another host may know of the failure first, and all are stopped that lose with it."""
    outcome = Outcome(137, 0, stopped=True, stderr=words("", host="algo-2", rank=1))
    assert failure.reason("train.py", outcome, CODE, RankFailure(1, -9)) == (
        "rank 1 of train.py on algo-2 was killed by SIGKILL (often: out of memory)"
    )


def test_a_script_that_was_never_started_did_not_die():
    assert failure.reason("train.py", Outcome.unstarted(signal.SIGTERM), CODE) == (
        "stopped by SIGTERM before train.py was started"
    )


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


def test_a_script_that_was_killed_from_outside_did_not_die_of_what_it_said_before():
    assert (
        said_of(raised("ValueError: handled"), exit_code=143, signal=15) == "train.py was killed by SIGTERM"
    )


def test_the_last_line_of_a_shell_script(tmp_path):
    done = subprocess.run(["/bin/sh", "-c", "no-such-program"], capture_output=True, text=True, check=False)
    said = failure.reason(
        "train.sh", Outcome(done.returncode, 0, stopped=False, stderr=words(done.stderr)), tmp_path
    )
    assert said.startswith("train.sh exited with code 127: ")
    assert "no-such-program" in said


# -- exceptions that did not end the script ----------------------------------------------------

NOISE = {
    "a finalizer": """
class Noisy:
    def __del__(self):
        raise RuntimeError("noise of teardown")
noisy = Noisy()
""",
    "an atexit function": """
import atexit
def noise():
    raise RuntimeError("noise of teardown")
atexit.register(noise)
""",
    "a finalizer, in a chain": """
class Noisy:
    def __del__(self):
        try:
            1 / 0
        except ZeroDivisionError:
            raise RuntimeError("noise of teardown")
noisy = Noisy()
""",
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=list(NOISE))
def test_what_is_raised_in_teardown_is_not_why(reason, noise):
    assert "noise" in noise
    assert reason(noise + "\ndef f():\n    raise ValueError('bad batch 17')\nf()\n").startswith(
        "train.py exited with code 1: ValueError: bad batch 17 (train.py, line "
    )
    assert reason(noise + "import sys\nsys.exit('no data')\n") == "train.py exited with code 1: no data"


@pytest.mark.parametrize(
    "header",
    [
        "Exception ignored in: <function Noisy.__del__ at 0x7f52>",
        "Exception ignored while calling deallocator <function Noisy.__del__ at 0x7f52>:",
        "Exception ignored in atexit callback: <function noise at 0x7f52>",
        "Error in atexit._run_exitfuncs:",
        "Task exception was never retrieved\nfuture: <Task finished name='Task-1' coro=<f()>>",
        "ERROR:asyncio:Future exception was never retrieved\nfuture: <Future finished>",
    ],
)
def test_an_exception_under_a_header_that_says_it_is_ignored_is_not_why(header):
    noise = f"{header}\n{raised('OSError: noise', file='noise.py')}"
    chained = f"{noise}\nDuring handling of the above exception, another exception occurred:\n\n"
    chained += raised("KeyError: noise", file="noise.py")
    bare = f"{header}\nBrokenPipeError: [Errno 32] Broken pipe\n"
    for text in (noise, chained, bare):
        expected = "train.py exited with code 1: ValueError: bad (train.py, line 3, in f)"
        assert said_of(raised("ValueError: bad") + text) == expected
        assert said_of(text + raised("ValueError: bad")) == expected
        assert said_of("no data\n" + text) == "train.py exited with code 1: no data"


def test_a_task_of_asyncio_that_nobody_waited_for_is_not_why(reason):
    source = """
    import asyncio, gc, sys

    async def noise():
        raise OSError("noise")

    async def main():
        task = asyncio.create_task(noise())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(main())
    sys.exit("no data")
    """
    assert reason(source) == "train.py exited with code 1: no data"


def test_a_traceback_that_much_other_output_follows_was_handled(reason):
    source = """
    import logging, sys
    try:
        raise ValueError("connection reset")
    except ValueError:
        logging.exception("retrying")
    for step in range(60):
        logging.warning("step %s is slow", step)
    sys.exit("fatal: learning rate is negative")
    """
    assert reason(source) == (
        "train.py exited with code 1: fatal: learning rate is negative; "
        "before: ValueError: connection reset (train.py, line 4, in <module>)"
    )


def test_a_traceback_long_before_the_end_was_handled():
    handled = words(raised("OSError: reset"), *["step\n"] * 20, "no data\n")
    assert failure.reason("train.py", Outcome(1, 0, stopped=False, stderr=handled), CODE) == (
        "train.py exited with code 1: no data; before: OSError: reset (train.py, line 3, in f)"
    )


def test_of_what_was_said_long_before_a_silent_end_only_the_exception():
    handled = words(raised("OSError: reset"), "retrying\n", ended=1100.0)
    assert failure.reason("train.py", Outcome(139, signal.SIGSEGV, stopped=False, stderr=handled), CODE) == (
        "train.py was killed by SIGSEGV; before: OSError: reset (train.py, line 3, in f)"
    )


@pytest.mark.parametrize(
    ("sig", "link"),
    [(signal.SIGSEGV, "; before: "), (signal.SIGABRT, ": "), (signal.SIGINT, ": ")],
    ids=["SIGSEGV", "SIGABRT", "SIGINT"],
)
def test_an_exception_ends_a_process_by_its_own_signals_only(sig, link):
    assert said_of(raised("ValueError: bad"), exit_code=128 + sig, signal=sig) == (
        f"train.py was killed by {sig.name}{link}ValueError: bad (train.py, line 3, in f)"
    )


def test_what_torch_or_its_report_calls_a_failure_is_one_however_long_the_others_took_to_end():
    marked = "".join(f"[rank1]: {line}\n" for line in raised("ValueError: bad").splitlines())
    for text in (marked, raised("ValueError: bad")):
        late = words(text, *["waiting\n"] * 100, REPORT)
        said = failure.reason("train.py", Outcome(1, 0, stopped=False, stderr=late), CODE)
        assert said.startswith("train.py exited with code 1: ValueError: bad (train.py, line 3, in f)")


def test_of_a_long_message_its_last_line_is_kept():
    said = said_of(raised("ValueError: first\n" + "  a line of many\n" * 200 + "see the manual"))
    assert said.startswith("train.py exited with code 1: ValueError: first (train.py, line 3, in f)\n  a")
    assert said.endswith("\n...\nsee the manual")
    assert len(said) == FAILURE_BYTES


def test_a_message_of_a_single_long_line_does_not_hide_its_frames(supervise, tmp_path):
    source = "def f():\n    raise RuntimeError('x' * 180_000)\nf()\n"
    (tmp_path / "train.py").write_text(source)
    outcome = supervise([sys.executable, str(tmp_path / "train.py")]).outcome
    said = failure.reason("train.py", outcome, tmp_path)
    assert said.startswith("train.py exited with code 1: RuntimeError: xxx")
    assert said.endswith("xxx... (train.py, line 2, in f)")


# -- several ranks -----------------------------------------------------------------------------


def test_the_rank_counts_that_raised_first():
    late = words("step\n", "step\n", raised("RuntimeError: connection closed"), rank=0)
    early = words("step\n", raised("ValueError: bad batch 17"), rank=1)
    assert of_ranks(late, early) == (
        "rank 1 of train.py exited with code 1: ValueError: bad batch 17 (train.py, line 3, in f)"
    )


def test_a_rank_that_lived_on_after_its_traceback_does_not():
    handled = words(raised("OSError: handled"), ended=1100.0, rank=0)
    failed = words(raised("ValueError: bad"), began=1099.0, rank=1)
    assert of_ranks(handled, failed).startswith("rank 1 of train.py exited with code 1: ValueError: bad")


def test_the_rank_counts_that_the_tool_names():
    ranks = [words(raised(f"ValueError: of {n}"), rank=n, host="algo-2") for n in (2, 3)]
    assert of_ranks(*ranks, first=RankFailure(3, 5)) == (
        "rank 3 of train.py on algo-2 exited with code 5: ValueError: of 3 (train.py, line 3, in f)"
    )


def test_a_rank_that_was_killed():
    ranks = [words(raised("RuntimeError: connection closed"), rank=0), words("step 3\n", rank=1)]
    assert of_ranks(*ranks, first=RankFailure(1, -9)) == (
        "rank 1 of train.py was killed by SIGKILL (often: out of memory)"
    )


def test_a_rank_of_another_host():
    assert of_ranks(words(rank=0, host="algo-1"), first=RankFailure(1, 3)) == (
        "rank 1 of train.py exited with code 3"
    )


def test_one_rank_alone_is_the_script():
    assert of_ranks(words(raised("ValueError: bad"), rank=0), first=RankFailure(0, 1)) == (
        "train.py exited with code 1: ValueError: bad (train.py, line 3, in f)"
    )


def test_without_words_of_a_rank_those_of_the_command():
    ranks = [words(rank=0), words("a warning\n", rank=1)]
    assert of_ranks(*ranks, stderr="no route to host\n", exit_code=255) == (
        "train.py exited with code 255: no route to host"
    )


def test_where_the_command_only_reports_failures_the_words_of_the_rank_that_ended_first():
    said = "error: unrecognized arguments: --nope\n"
    ranks = [words(said, rank=n, ended=1000.0 + n) for n in (1, 0)]
    assert of_ranks(*ranks, stderr=REPORT) == (
        "rank 0 of train.py exited with code 1: error: unrecognized arguments: --nope"
    )


def test_a_line_that_is_only_drawn_says_nothing():
    assert said_of("mpirun: no such option\n-----\n  ==== \n") == (
        "train.py exited with code 1: mpirun: no such option"
    )


def test_a_tool_that_is_killed_is_not_called_the_script():
    ranks = [words("step 3\n", rank=0)]
    outcome = Outcome(137, 9, stopped=False, stderr=words(""), ranks=tuple(ranks))
    assert failure.reason("train.py", outcome, CODE).startswith(
        "what launched train.py was killed by SIGKILL"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_of_the_name_of_the_record_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "failure")
    assert failure.record(tmp_path / "failure", "why") == "why"
    assert "why" in capsys.readouterr().err


def test_a_host_of_several_without_ranks():
    outcome = Outcome(2, 0, stopped=False, stderr=words(raised("ValueError: bad"), host="algo-2"))
    assert failure.reason("train.py", outcome, CODE) == (
        "train.py on algo-2 exited with code 2: ValueError: bad (train.py, line 3, in f)"
    )


def test_what_torch_marks_as_a_ranks_and_the_report_after_it():
    def marked(rank, text):
        return "".join(f"[rank{rank}]: {line}\n" for line in text.splitlines())

    stderr = (
        marked(1, raised("ValueError: bad batch 17\nof 18"))
        + marked(0, raised("RuntimeError: connection closed"))
        + "[rank0]:[W1121 ProcessGroup.cpp:1250] Warning: not destroyed\n"
        + REPORT
    )
    assert said_of(stderr) == (
        "train.py exited with code 1: ValueError: bad batch 17 (train.py, line 3, in f)\nof 18"
    )


def test_the_report_of_torchrun_does_not_hide_a_traceback_without_a_mark():
    assert said_of(raised("ValueError: bad") + REPORT).endswith(": ValueError: bad (train.py, line 3, in f)")


@pytest.mark.parametrize(
    ("exit_code", "first", "expected"),
    [
        (1, None, 1),
        (1, RankFailure(1, 7), 7),
        (1, RankFailure(1, -9), 137),
        (1, RankFailure(1, 0), 1),
        (0, RankFailure(1, 7), 0),  # The tool has started it again.
    ],
)
def test_the_exit_code_is_that_of_the_rank_that_failed_first(exit_code, first, expected):
    assert failure.exit_code(Outcome(exit_code, 0, stopped=False), first) == expected


def test_the_moment_of_a_failure_is_when_its_traceback_was_whole():
    assert failure.moment(words("step\n", raised("ValueError: bad"), "bye\n", ended=1009.0)) == 1001.0
    assert failure.moment(words("step\n", "step\n", ended=1009.0)) == 1009.0


# -- the file ----------------------------------------------------------------------------------


def test_a_reason_is_recorded(tmp_path):
    assert failure.record(tmp_path / "failure", "it failed") == "it failed"
    assert (tmp_path / "failure").read_text() == "it failed"
    assert not (tmp_path / "failure.log").exists()


def test_all_that_was_said_is_recorded_beside_it_and_the_moment_is_the_files(tmp_path):
    layout = JobLayout(tmp_path)
    layout.output.mkdir()
    failure.record(layout.failure, "it failed", "all\nof it\n", 1234.5)
    assert layout.failure_log.read_text() == "all\nof it\n"
    assert layout.failure.stat().st_mtime == 1234.5


def test_the_users_own_reason_is_kept_and_clipped_for_whoever_asks(tmp_path):
    (tmp_path / "failure").write_bytes(b"mine \xff" + b"x" * 2000)
    said = failure.record(tmp_path / "failure", "it failed", at=1.0)
    assert said.startswith("mine \ufffdxxx")
    assert len(said.encode()) == FAILURE_BYTES
    assert (tmp_path / "failure").read_bytes() == b"mine \xff" + b"x" * 2000
    assert (tmp_path / "failure").stat().st_mtime > 1.0


def test_an_empty_file_of_the_user_is_no_reason(tmp_path):
    (tmp_path / "failure").touch()
    assert failure.record(tmp_path / "failure", "it failed") == "it failed"


@pytest.mark.parametrize("place", ["full", "gone"])
def test_where_nothing_can_be_written_the_log_says_it(tmp_path, capsys, place):
    path = tmp_path / "failure" if place == "full" else Path("/proc/nowhere/output/failure")
    if place == "full":
        path.symlink_to("/dev/full")
    assert failure.record(path, "it failed", "all") == "it failed"
    assert "modelyard: it failed\n" in capsys.readouterr().err


def test_the_folder_of_the_record_is_made(tmp_path):
    layout = JobLayout(tmp_path / "ml")
    assert failure.record(layout.failure, "it failed", "all") == "it failed"
    assert (layout.failure.read_text(), layout.failure_log.read_text()) == ("it failed", "all")


def test_the_failure_of_a_script_from_its_start_to_the_record(supervise, eventually, tmp_path):
    before = time.time()
    source = """
import os, sys, time, traceback
try:
    raise ValueError("no data")
except ValueError:
    traceback.print_exc()
while not os.path.exists("go"):
    time.sleep(0.01)
time.sleep(1)
sys.exit(5)
"""
    run = supervise(source)
    eventually(lambda: "ValueError: no data\n" in run.process.stderr, "what it raised has been read")
    (tmp_path / "supervised-0" / "go").touch()
    outcome = run.outcome
    said = failure.witness(outcome)
    failure.record(
        tmp_path / "failure", failure.reason("-c", outcome, tmp_path), said.text, failure.moment(said)
    )
    assert "exited with code 5: ValueError: no data" in (tmp_path / "failure").read_text()
    assert "Traceback" in (tmp_path / "failure.log").read_text()
    assert before < (tmp_path / "failure").stat().st_mtime < said.ended - 0.5
