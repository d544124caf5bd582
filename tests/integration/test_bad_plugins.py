"""With every kind of bad plugin installed, the list, a fit and a serve that use none of them go on."""

import json
import os
import subprocess
import sys

import pytest

BAD = {
    "raises": "1 / 0",
    "exits": "raise SystemExit(3)",
    "exits-in-a-hook": (
        "from modelyard import hookimpl\n@hookimpl\ndef modelyard_register_codecs(): raise SystemExit(3)\n"
        "modelyard_register_launchers = modelyard_register_codecs"
    ),
    "raises-everywhere": "\n".join(
        [
            "from modelyard import hookimpl",
            *(
                f"@hookimpl\ndef modelyard_{hook}(): raise OSError('no disk')"
                for hook in (
                    "register_hardware",
                    "register_backends",
                    "register_packagers",
                    "register_storages",
                    "select_hardware",
                    "select_launcher",
                    "select_backend",
                    "select_packager",
                    "job_environ",
                    "job_started",
                    "job_finished",
                    "model_loaded",
                    "wrap_handler",
                )
            ),
        ]
    ),
    "returns-rubbish": "\n".join(
        [
            "from modelyard import hookimpl",
            *(
                f"@hookimpl\ndef modelyard_{hook}(): return 42"
                for hook in ("register_codecs", "select_hardware", "job_environ", "wrap_handler")
            ),
        ]
    ),
    "prints": "print('hello')",
    "patches": "import builtins, modelyard.core.registry as r; builtins.len = r.Registry.get = None",
    "takes-stdout": "import io, sys; sys.stdout = io.StringIO()",
    "names-itself-json": (
        "from modelyard import hookimpl\nclass Mine:\n    name = 'json'\n    media_types = ()\n"
        "    def encode(self, value): return b'mine'\n    def decode(self, body): return 'mine'\n"
        "@hookimpl\ndef modelyard_register_codecs(): return [Mine]"
    ),
    "has-a-bad-name": (
        "from modelyard import hookimpl\nclass Mine:\n    name = 'no word'\n    media_types = ()\n"
        "    encode = decode = print\n@hookimpl\ndef modelyard_register_codecs(): return [Mine]"
    ),
    "is-too-new": "MODELYARD_CONTRACT = '99.0'",
    "knows-another-hook": "from modelyard import hookimpl\n@hookimpl\ndef modelyard_of_the_future(): pass",
}
SAID = {
    "raises": "ZeroDivisionError: division by zero",
    "exits": "SystemExit: 3",
    "exits-in-a-hook": "modelyard_register_launchers raised SystemExit: 3",
    "raises-everywhere": "raised OSError: no disk",
    "returns-rubbish": "modelyard_register_codecs must return an iterable of classes, not 42",
    "prints": "prints to stdout, which went to stderr",
    "patches": "replaces builtins.len, modelyard.core.registry.Registry.get, which was undone",
    "takes-stdout": "replaces sys.stdout, which was undone",
    "names-itself-json": "its codec 'json' is left out: modelyard has one of that name",
    "has-a-bad-name": "'no word' is no name of a codec",
    "is-too-new": "pip install -U modelyard",
    "knows-another-hook": "no hook is called 'modelyard_of_the_future'",
}
FIT = """
import pathlib
from modelyard import PyTorch, PyTorchModel
pathlib.Path("train.py").write_text(
    "import os; open(os.environ['SM_MODEL_DIR'] + '/factor', 'w').write('3')"
)
pathlib.Path("inference.py").write_text('''
import json, pathlib
def model_fn(model_dir): return int(pathlib.Path(model_dir, 'factor').read_text())
def input_fn(body, content_type): return json.loads(body)
def predict_fn(value, factor): return [factor * item for item in value]
''')
estimator = PyTorch("train.py")
estimator.fit(logs=False)
with estimator.deploy(entry_point="inference.py") as predictor:
    predictor.content_type = predictor.accept = "application/json"
    print(predictor.predict([1, 2]))
"""


@pytest.fixture
def python(tmp_path, modelyard_home, monkeypatch):
    """Return what runs Python where every bad plugin is installed."""
    site = tmp_path / "site-packages"
    for name, source in BAD.items():
        module = name.replace("-", "_")
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"bad_{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[modelyard]\n{name} = bad_{module}\n")
    monkeypatch.delenv("MODELYARD_PLUGINS_AUTOLOAD", raising=False)

    def run(*arguments):
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return run


def test_the_list_says_of_each_what_is_wrong(python):
    done = python("-m", "modelyard", "plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    said = {name: [json.dumps(row) for row in rows if row["plugin"] == name] for name in SAID}
    assert {name: any(SAID[name] in text for text in texts) for name, texts in said.items()} == dict.fromkeys(
        SAID, True
    )
    assert "hello" in done.stderr


def test_a_fit_and_a_serve_go_on(python):
    done = python("-c", FIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "[3, 6]"
