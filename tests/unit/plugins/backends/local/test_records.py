"""Records that many processes share: nothing is lost, ends are final, a dead holder is noticed."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from modelyard.plugins.backends.local.records import RecordGoneError, Records, lease_is_held, mirror

LIVE = ("InProgress", "Stopping")


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "home")


@pytest.fixture
def held():
    """Keep leases for a test, and let go of them at its end."""
    with contextlib.ExitStack() as stack:

        def keep(taken):
            record, lease = taken
            stack.callback(os.close, lease)
            return record

        yield keep


@pytest.fixture
def crowd(tmp_path, modelyard_home):
    """Start many processes, let them loose at once, and return the line that each of them prints.

    All of them live until the last one has printed.
    """
    start = """
import json, os, sys, time
from pathlib import Path
from modelyard.plugins.backends.local.records import Records

records, number = Records(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
"""
    end = "\nsys.stdout.flush()\nsys.stdin.read()"

    def run(count, code, home=tmp_path / "home"):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", start + code + end, str(home), str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [process.stdout.readline().strip() for process in processes]
        errors = [process.communicate(timeout=60)[1] for process in processes]
        assert errors == [""] * count, "\n".join(errors)
        return answers

    return run


# -- one process -------------------------------------------------------------------------------


def test_what_is_added_is_found(records, held):
    record = held(records.add("job", "one", "InProgress", '{"a": 1}'))
    assert (record.kind, record.name, record.status, record.plan) == ("job", "one", "InProgress", '{"a": 1}')
    assert record.folder == records.home / "jobs" / "one"
    assert record.folder.is_dir()
    assert records.find("job", "one") == records.get(record.id) == records.current(record.id) == record
    assert records.all("job") == (record,)


def test_before_anything_was_added_there_is_nothing_and_nothing_is_made(records):
    assert records.find("job", "one") is None
    assert records.all("job") == ()
    assert not records.home.exists()


def test_kinds_have_names_of_their_own(records, held):
    held(records.add("job", "one", "InProgress", "{}"))
    endpoint = held(records.add("endpoint", "one", "Creating", "{}"))
    assert records.find("endpoint", "one") == endpoint
    assert [record.kind for record in records.all("job")] == ["job"]


def test_a_move_happens_only_from_the_states_it_names(records, held):
    record = held(records.add("job", "one", "InProgress", "{}"))
    assert records.move(record.id, "Stopped", since=("Stopping",)).status == "InProgress"
    moved = records.move(record.id, "Stopping", since=LIVE, reason="asked to", pid=7)
    assert (moved.status, moved.reason, moved.details) == ("Stopping", "asked to", {"pid": 7})
    assert moved.changed >= record.changed


def test_details_are_added_to_each_other(records, held):
    record = held(records.add("job", "one", "InProgress", "{}"))
    records.annotate(record.id, pid=7, output="file:///out")
    records.move(record.id, "Completed", since=LIVE, exit_code=0)
    records.annotate(record.id, pid=8)
    assert records.get(record.id).details == {"pid": 8, "output": "file:///out", "exit_code": 0}


@pytest.mark.parametrize("end", ["Completed", "Failed", "Stopped"])
def test_an_end_is_final(records, held, end):
    record = held(records.add("job", "one", "InProgress", "{}"))
    ended = records.move(record.id, end, since=LIVE, reason="why")
    for to in ("InProgress", "Stopping", "Completed", "Failed", "Stopped"):
        assert records.move(record.id, to, since=LIVE, reason="another") == ended
    assert records.current(record.id) == ended
    assert ended.is_terminal


def test_a_jobs_name_is_used_once(records, held):
    record = held(records.add("job", "one", "InProgress", "{}"))
    assert records.add("job", "one", "InProgress", "{}") is None
    records.move(record.id, "Completed", since=LIVE)
    assert records.add("job", "one", "InProgress", "{}") is None


@pytest.mark.parametrize("end", ["Failed", "Deleted"])
def test_an_endpoints_name_is_free_after_its_end(records, held, end):
    first = held(records.add("endpoint", "one", "Creating", "{}"))
    assert records.add("endpoint", "one", "Creating", "{}") is None
    records.move(first.id, end, since=("Creating",))
    second = held(records.add("endpoint", "one", "Creating", "{}"))
    assert second.id != first.id
    assert second.folder != first.folder
    assert records.find("endpoint", "one") == second


def test_a_discarded_name_is_free(records, held):
    record = held(records.add("job", "one", "InProgress", "{}"))
    records.discard(record)
    shutil.rmtree(record.folder)
    assert records.find("job", "one") is None
    held(records.add("job", "one", "InProgress", "{}"))


def test_what_is_taken_back_while_others_look_is_not_there(records, held, monkeypatch):
    """Its folder, with the lease, is removed first: another process may see it without."""
    from modelyard.plugins.backends.local import records as module

    both = [held(records.add(kind, "one", "X", "{}")) for kind in ("endpoint", "job")]
    taken = {record.folder: record for record in both}
    kept = records.move(held(records.add("job", "kept", "X", "{}")).id, "Completed", since="X")

    def taken_back(folder):
        records.discard(taken[folder])
        return False

    monkeypatch.setattr(module, "lease_is_held", taken_back)
    assert records.find("endpoint", "one") is None
    assert records.all("job") == (kept,)
    with pytest.raises(RecordGoneError, match="was being started, which has failed"):
        records.current(both[0].id)


def test_a_folder_of_lost_records_holds_its_name_and_is_left_alone(records, held):
    kept = records.home / "jobs" / "one" / "model.tar.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"precious")
    assert records.add("job", "one", "InProgress", "{}") is None
    assert records.find("job", "one") is None
    assert kept.read_bytes() == b"precious"


def test_everything_is_for_this_users_eyes_only(records, held):
    previous = os.umask(0)
    try:
        record = held(records.add("job", "one", "InProgress", "{}"))
        records.annotate(record.id, pid=7)
        with records._database() as database:  # While it is open, its two companions are there.
            database.execute("BEGIN IMMEDIATE")
            database.execute("UPDATE records SET reason = 'x'")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in records.home.iterdir()}
    finally:
        os.umask(previous)
    folders = {"jobs": 0o700}
    files = dict.fromkeys(("state.db", "state.db-wal", "state.db-shm", "state.lock"), 0o600)
    assert modes == folders | files
    assert stat.S_IMODE(records.home.stat().st_mode) == 0o700
    assert stat.S_IMODE(record.folder.stat().st_mode) == 0o700
    inside = {path.name: stat.S_IMODE(path.stat().st_mode) for path in record.folder.iterdir()}
    assert inside == dict.fromkeys(("lease", "job.json", "log.txt"), 0o600)


def test_a_home_whose_parents_are_missing_is_made(tmp_path, held):
    held(Records(tmp_path / "a" / "b").add("job", "one", "InProgress", "{}"))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_the_mirror_says_what_the_record_says(records, held):
    record = held(records.add("job", "one", "InProgress", '{"job_name": "one"}'))
    records.move(record.id, "Failed", since=LIVE, reason="grün", exit_code=1)
    content = json.loads((record.folder / "job.json").read_text("utf-8"))
    assert content["status"] == "Failed"
    assert content["reason"] == "grün"
    assert content["plan"] == {"job_name": "one"}
    assert content["details"] == {"exit_code": 1}
    assert not list(record.folder.glob("*.tmp"))


def test_a_mirror_that_cannot_be_written_stops_nothing(records, held):
    record = held(records.add("job", "one", "InProgress", "{}"))
    for path in record.folder.iterdir():
        path.unlink()
    record.folder.rmdir()  # The user has tidied up.
    assert records.find("job", "one").status == "Failed"
    assert [found.status for found in records.all("job")] == ["Failed"]


def test_threads_share_the_records_and_the_mirror(records, held):
    record = held(records.add("job", "one", "InProgress", "{}"))
    errors = []

    def work():
        try:
            for _ in range(25):
                records.move(record.id, "InProgress", since=("InProgress",))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert json.loads((record.folder / "job.json").read_text())["status"] == "InProgress"


def test_the_last_move_is_what_the_mirror_keeps(records, held, monkeypatch):
    """A writer that was slow with an older state must not overwrite a newer one."""
    from modelyard.plugins.backends.local import records as module

    record = held(records.add("job", "one", "InProgress", "{}"))
    slow = threading.Event()

    def delayed(older):
        if older.status == "Stopping":
            slow.set()
            time.sleep(0.3)
        mirror(older)

    monkeypatch.setattr(module, "mirror", delayed)
    stopping = threading.Thread(target=records.move, args=(record.id, "Stopping"), kwargs={"since": LIVE})
    stopping.start()
    assert slow.wait(30)
    records.move(record.id, "Stopped", since=LIVE)
    stopping.join()
    assert json.loads((record.folder / "job.json").read_text())["status"] == "Stopped"


# -- leases ------------------------------------------------------------------------------------


def test_a_lease_is_held_until_it_is_let_go(records):
    record, lease = records.add("job", "one", "InProgress", "{}")
    assert lease_is_held(record.folder)
    assert records.current(record.id).status == "InProgress"
    os.close(lease)
    assert not lease_is_held(record.folder)
    ended = records.find("job", "one")
    assert (ended.status, ended.is_terminal) == ("Failed", True)
    assert "killed" in ended.reason


def test_looking_at_a_lease_does_not_take_it(records, held):
    record = held(records.add("job", "one", "InProgress", "{}"))
    assert all(lease_is_held(record.folder) for _ in range(3))


def test_an_end_is_kept_when_its_lease_goes(records):
    record, lease = records.add("job", "one", "InProgress", "{}")
    records.move(record.id, "Completed", since=LIVE)
    os.close(lease)
    assert records.current(record.id).status == "Completed"


def test_a_lost_endpoint_frees_its_name(records, held):
    _, lease = records.add("endpoint", "one", "InService", "{}")
    os.close(lease)
    second = held(records.add("endpoint", "one", "Creating", "{}"))
    assert records.find("endpoint", "one") == second


def test_a_lost_records_scratch_folder_is_removed(records, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    record, lease = records.add("job", "one", "InProgress", "{}")
    records.annotate(record.id, scratch=str(scratch))
    os.close(lease)
    assert records.current(record.id).status == "Failed"
    assert not scratch.exists()


HOLD = """
import sys, time
from pathlib import Path
from modelyard.plugins.backends.local.records import Records

record, lease = Records(Path(sys.argv[1])).add("job", "one", "InProgress", "{}")
print("held", flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM], ids=lambda sig: sig.name)
def test_a_holder_that_dies_is_noticed(records, modelyard_home, sig):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(records.home)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert records.find("job", "one").status == "InProgress"
        holder.send_signal(sig)
    lost = records.find("job", "one")
    assert (lost.status, lost.is_terminal) == ("Failed", True)
    assert json.loads((lost.folder / "job.json").read_text())["status"] == "Failed"


def test_a_lease_that_is_handed_on_is_held_by_its_heir(records, modelyard_home):
    record, lease = records.add("job", "one", "InProgress", "{}")
    wait = "import sys; sys.stdin.read()"
    heir = subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE, pass_fds=[lease])
    os.close(lease)
    with heir:
        assert records.current(record.id).status == "InProgress"
        heir.stdin.close()
        heir.wait()
        assert records.current(record.id).status == "Failed"


# -- many processes ----------------------------------------------------------------------------


def test_no_move_is_lost(records, held, crowd):
    """Each move is conditional on the state that the mover has seen: none may be overwritten."""
    record = held(records.add("job", "one", "0", "{}"))
    answers = crowd(
        8,
        f"""
done = 0
while done < 100:
    seen = records.get({record.id}).status
    mine = f"{{int(seen) + 1}}"
    moved = records.move({record.id}, mine, since=(seen,), **{{f"p{{number}}-{{done}}": mine}})
    done += moved.details.get(f"p{{number}}-{{done}}") == mine
print(done)
""",
    )
    assert answers == ["100"] * 8
    final = records.get(record.id)
    assert final.status == "800"
    assert sorted(map(int, final.details.values())) == list(range(1, 801))


def test_of_many_ends_one_counts(records, held, crowd):
    record = held(records.add("job", "one", "InProgress", "{}"))
    answers = crowd(
        8,
        f"""
end = ("Completed", "Failed", "Stopped")[number % 3]
moved = records.move({record.id}, end, since=("InProgress", "Stopping"), reason=str(number))
seen = {{(now.status, now.reason) for now in (records.get({record.id}) for _ in range(20))}}
print(moved.status, moved.reason, len(seen))
""",
    )
    assert len(set(answers)) == 1, answers
    status, reason, states_seen = answers[0].split()
    assert states_seen == "1"
    final = records.get(record.id)
    assert (final.status, final.reason) == (status, reason)


def test_many_processes_make_the_database_at_once(crowd):
    answers = crowd(
        20,
        """
record, lease = records.add("job", f"job-{number}", "InProgress", "{}")
records.annotate(record.id, pid=os.getpid())
records.move(record.id, "Completed", since=("InProgress",))
print(records.get(record.id).status)
""",
    )
    assert answers == ["Completed"] * 20


def test_nothing_is_lost_while_the_database_is_made(crowd, tmp_path):
    crowd(
        20,
        """
for i in range(3):
    records.add("job", f"job-{number}-{i}", "Completed", "{}")
print("done")
""",
    )
    names = {record.name for record in Records(tmp_path / "home").all("job")}
    assert names == {f"job-{number}-{i}" for number in range(20) for i in range(3)}
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "state.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


@pytest.mark.parametrize(("kind", "status"), [("job", "InProgress"), ("endpoint", "Creating")])
def test_of_many_that_add_one_name_one_wins(crowd, kind, status):
    answers = crowd(
        50,
        f"""
taken = records.add("{kind}", "one", "{status}", "{{}}")
print("won" if taken else "lost")
""",
    )
    assert Counter(answers) == {"won": 1, "lost": 49}


def test_the_mirror_can_be_read_at_any_time(records, held, crowd):
    record = held(records.add("job", "one", "0", "{}"))
    path = record.folder / "job.json"
    stop, seen, errors = threading.Event(), set(), []

    def watch():
        while not stop.is_set():
            try:
                seen.add(json.loads(path.read_text("utf-8"))["status"])
            except (OSError, ValueError, KeyError) as error:
                errors.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    crowd(
        4,
        f"""
for i in range(40):
    status = records.get({record.id}).status
    records.move({record.id}, str(int(status) + 1), since=(status,), filler="x" * 10000)
print("done")
""",
    )
    stop.set()
    watcher.join()
    assert not errors
    assert seen
    assert json.loads(path.read_text())["status"] == records.get(record.id).status
