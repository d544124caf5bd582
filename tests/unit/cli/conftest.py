import logging

import pytest


@pytest.fixture(autouse=True)
def logger():
    """Put back what a program sets for itself."""
    logger = logging.getLogger("modelyard")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a plugin, as pip does: a module and the metadata of its distribution."""

    def install(name, source):
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[modelyard]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # For the processes that are started.

    return install
