"""Servers to be tried, and the table of what was promised and what was measured."""

import pytest
from tests.chaos.server import ECHO, Server

_rows = pytest.StashKey[list]()


@pytest.fixture
def serve(tmp_path):
    """Serve a script; what it starts is ended with the test."""
    servers = []

    def make(script=ECHO, **options):
        base = tmp_path / f"ml-{len(servers)}"
        base.mkdir()
        servers.append(Server(base, script, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


@pytest.fixture
def report(request, record_property):
    """Note one line of the table: `row` as in R1, what was tried, the target, and what was measured."""
    rows = request.config.stash.setdefault(_rows, [])

    def note(row, what, target, measured):
        record_property(row, f"{what}: {target}; measured: {measured}")
        rows.append((row, what, target, measured))

    return note


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(_rows, [])
    if not rows:
        return
    terminalreporter.section("what was promised, and what was measured")
    for row, what, target, measured in sorted(rows, key=lambda line: int(line[0][1:])):
        terminalreporter.write_line(f"{row:4}{what}\n      target    {target}\n      measured  {measured}")
