"""The model server on GPUs: whose device is whose, what runs out, what breaks, and batches."""

import contextlib
import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.integration.conftest import until

from modelyard import PyTorchModel
from modelyard.core.manager import PluginManager
from modelyard.core.plans import ProviderRef
from modelyard.hardware import detection

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PATIENCE = 90.0

WHERE = """
import json, os, torch

def model_fn(model_dir):
    return torch.zeros(1, device="cuda")

def transform_fn(model, body, content_type, accept, context):
    here = torch.empty(1, device=torch.device("cuda"))
    gpus = [context.system_properties["gpu_id"], model.device.index, here.device.index]
    return json.dumps({"pid": os.getpid(), "gpus": gpus})
"""

GREEDY = """
import json, os, torch

def model_fn(model_dir):
    return torch.zeros(1, device="cuda")

def transform_fn(model, body, content_type, accept):
    free, total = torch.cuda.mem_get_info()
    if body == b"too much":
        held = torch.empty(free // 2, dtype=torch.uint8, device="cuda")
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")
    return json.dumps({"pid": os.getpid(), "free": free})
"""

BREAKING = """
import json, os, torch

def model_fn(model_dir):
    return torch.ones(1, device="cuda")

def transform_fn(model, body, content_type, accept):
    if body == b"break":
        model[torch.tensor([7], device="cuda")].item()
    if body == b"break later":
        model[torch.tensor([7], device="cuda")]  # Of which nobody knows until somebody waits for it.
        return "not yet"
    return json.dumps({"pid": os.getpid(), "one": (model * 1).item()})
"""

DOUBLING = """
import torch

class Doubling(torch.nn.Module):
    def forward(self, x):
        return x * 2

def model_fn(model_dir):
    return Doubling()
"""


def asked(server, body=b""):
    status, _, answer = server.ask("POST", "/invocations", body, {"Content-Type": "application/octet-stream"})
    return status, answer


def seen_by(server, workers):
    """Ask until so many workers have answered; return what each has."""
    seen = {}

    def all_have_answered():
        answer = json.loads(asked(server)[1])
        seen[answer["pid"]] = answer["gpus"]
        return len(seen) == workers

    until(all_have_answered, PATIENCE)
    return seen.values()


def test_each_gpu_has_a_worker_that_finds_itself_on_it(serve):
    count = detection.gpus().count
    server = serve(WHERE, MODELYARD_SERVE_WORKERS="0").ready()
    assert server.wait_for(r"listening .* workers=(\d+)") == str(count)
    assert sorted(seen_by(server, count)) == [[index] * 3 for index in range(count)]


def test_more_workers_than_gpus_share_them_in_turn(serve):
    count = detection.gpus().count
    server = serve(WHERE, MODELYARD_SERVE_WORKERS=str(count + 1)).ready()
    assert sorted(seen_by(server, count + 1)) == sorted([index % count] * 3 for index in range(count + 1))


def test_out_of_memory_is_a_507_for_one_request_and_the_memory_comes_back(serve):
    server = serve(GREEDY).ready()
    status, before = asked(server)
    assert status == 200
    status, refused = asked(server, b"too much")
    assert (status, json.loads(refused)["code"]) == (507, "out_of_memory")
    status, after = asked(server)
    assert status == 200
    before, after = json.loads(before), json.loads(after)
    assert after["pid"] == before["pid"]
    # To the driver, so that other processes can have it.
    assert after["free"] >= before["free"] - 64 * 1024**2


@pytest.mark.parametrize("when", [b"break", b"break later"])
def test_a_worker_whose_gpu_fails_is_replaced(serve, when):
    server = serve(BREAKING).ready()
    first = json.loads(asked(server)[1])["pid"]
    status, _ = asked(server, when)
    assert status == (500 if when == b"break" else 200)
    statuses = []

    def answered():
        with contextlib.suppress(OSError):
            status, answer = asked(server)
            statuses.append(status)
            return status == 200 and json.loads(answer)

    found = until(answered, PATIENCE)
    assert found["pid"] != first
    assert found["one"] == 1.0
    assert "the GPU fails" in server.log.read_text()
    # What was asked of it meanwhile is told to come again; at most one request finds out that it is broken.
    assert statuses.count(500) == (when == b"break later")
    assert set(statuses) <= {200, 500, 503}


@pytest.mark.parametrize("options", [{}, {"cuda_graphs": True}], ids=str)
def test_a_batch_gives_each_request_its_own_rows(tmp_path, modelyard_home, options):
    code = tmp_path / "model" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(DOUBLING)
    batches = {"MODELYARD_SERVE_BATCH_SIZE": "8", "MODELYARD_SERVE_MAX_BATCH_DELAY": "0.02"}
    model = PyTorchModel(model_data=tmp_path / "model", env=batches)
    with model.deploy(hardware=ProviderRef("cuda", options)) as predictor:
        local = PluginManager.builtin().backends.create("local")
        url = local.endpoint(predictor.endpoint_name).describe().url

        def ask(number):
            rows = [[number, row] for row in range(1 + number % 3)]
            request = urllib.request.Request(
                f"{url}/invocations", json.dumps(rows).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return rows, json.loads(answer.read())

        with ThreadPoolExecutor(16) as clients:
            for rows, doubled in clients.map(ask, range(160)):
                assert doubled == [[2 * value for value in row] for row in rows]
        with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE) as answer:
            counted = re.search(r"^modelyard_batch_size_count\S* (\d+)", answer.read().decode(), re.MULTILINE)
    assert int(counted[1]) < 160 / 2
