import json
import time

import pytest

from modelyard.core.metrics import read
from modelyard.core.plans import MetricDefinition
from modelyard.training import metrics
from modelyard.training.metrics import Recorder


@pytest.fixture
def found(tmp_path):
    """Search lines for one expression and return the values."""

    def make(regex, *blocks):
        recorder = Recorder([MetricDefinition("loss", regex)], tmp_path / "metrics", "algo-1")
        for block in blocks:
            assert not recorder.search(block)
        return [metric.value for metric in read(tmp_path / "metrics")]

    return make


def test_each_line_is_searched_and_the_first_group_counts(found):
    assert found("loss=([0-9.e-]+) (.*)", b"loss=0.5 a\nnothing\nx loss=1e-3 b\n", b"loss=2 c\n") == [
        0.5,
        0.001,
        2.0,
    ]


def test_what_is_kept_of_a_value(tmp_path):
    path = tmp_path / "metrics"
    definitions = [MetricDefinition("a", "a=(.*)"), MetricDefinition("b", "b=(.*)")]
    before = time.time()
    Recorder(definitions, path, "algo-2").search(b"b=2\na=1\n")
    first, second = read(path)
    assert (first.name, first.value, first.host) == ("a", 1.0, "algo-2")
    assert (second.name, second.value) == ("b", 2.0)
    assert before <= first.time == second.time <= time.time()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "none", "", "1,5", "1e999"])
def test_what_is_no_finite_number_is_left_out(found, text):
    assert found("loss=(.*)", f"loss={text}\nloss=1\n".encode()) == [1.0]


def test_a_group_that_takes_no_part_is_left_out(found):
    assert found("a|loss=(.*)", b"a\nloss=1\n") == [1.0]


def test_anchors_are_those_of_a_line(found):
    assert found("^loss=(.*)$", b"x loss=1\nloss=2\nloss=3\n") == [2.0, 3.0]


def test_bytes_that_are_no_text(found):
    assert found("\u20ac([0-9]+)", b"\xff\xfe\n" + "\u20ac5\n".encode()) == [5.0]


def test_an_expression_that_takes_too_long_is_given_up_and_the_others_go_on(tmp_path):
    slow = MetricDefinition("slow", r"((a+)+)$")
    recorder = Recorder([slow, MetricDefinition("loss", "loss=(.*)")], tmp_path / "metrics", "")
    said = recorder.search(b"a" * 60 + b"! loss=1\n")
    assert "metric 'slow' is given up" in said
    assert "((a+)+)$" in said
    assert recorder.search(b"a" * 60 + b"! loss=2\n") == ""
    assert [metric.value for metric in read(tmp_path / "metrics")] == [1.0, 2.0]


def test_a_full_disk_costs_the_metrics_only(found, tmp_path):
    (tmp_path / "metrics").symlink_to("/dev/full")
    recorder = Recorder([MetricDefinition("loss", "loss=(.*)")], tmp_path / "metrics", "")
    assert recorder.search(b"loss=1\n") == ""


def test_without_a_file_there_are_none(tmp_path):
    assert read(tmp_path / "metrics") == ()


def test_a_torn_last_line_and_rubbish_are_left_out(tmp_path):
    path = tmp_path / "metrics"
    line = json.dumps({"name": "loss", "value": 1.5, "time": 10.0, "host": "algo-1"})
    path.write_bytes(f'{line}\n\n[]\n{{"name": "x"}}\nnull\n'.encode() + b"\xff\n" + line[:30].encode())
    (metric,) = read(path)
    assert (metric.value, metric.time) == (1.5, 10.0)


@pytest.mark.parametrize("rubbish", ['{"name": "x", "value": ' + "9" * 400 + "}", "[" * 100_000])
def test_rubbish_that_is_too_much_for_json_or_a_number_is_left_out(tmp_path, rubbish):
    line = json.dumps({"name": "loss", "value": 1.5, "time": 10.0, "host": "algo-1"})
    (tmp_path / "metrics").write_text(f"{rubbish}\n{line}\n")
    assert [metric.value for metric in read(tmp_path / "metrics")] == [1.5]


def test_metrics_of_a_script_are_found_as_it_runs(supervise, tmp_path):
    path = tmp_path / "metrics"
    relay = {"host": "algo-1", "metrics": [["loss", "loss=([0-9.]+)"]], "metrics_file": str(path)}
    source = """
import sys, time
print("loss=0.5", flush=True)
print("loss=0.25", file=sys.stderr, flush=True)
for step in range(4):
    print(f"\\rloss={step}.0 |", end="", flush=True)
    time.sleep(0.6)
"""
    run = supervise(source, relay=relay)
    assert run.outcome.exit_code == 0
    values = [metric.value for metric in read(path)]
    assert sorted(values[:2]) == [0.25, 0.5]
    assert values[-1] == 3.0
    assert {metric.host for metric in read(path)} == {"algo-1"}
    assert run.process.stdout.startswith("[algo-1] loss=0.5\n")


def test_an_expression_is_not_given_up_where_this_process_is_held_up(found, monkeypatch):
    search = metrics._values

    def held_up(*arguments):
        time.sleep(0.2)
        return search(*arguments)

    monkeypatch.setattr(metrics, "_values", held_up)
    monkeypatch.setattr(metrics, "_LIMIT_SECONDS", 0.1)
    assert found("loss=(.*)", b"loss=1\n") == [1.0]


def test_an_expression_without_an_end_does_not_stop_the_supervisor(supervise, tmp_path):
    relay = {"metrics": [["slow", "((a+)+)$"]], "metrics_file": str(tmp_path / "metrics")}
    run = supervise("import sys; print('a' * 60 + '!'); sys.exit(3)", relay=relay)
    assert run.outcome.exit_code == 3
    assert "metric 'slow' is given up" in run.process.stdout
