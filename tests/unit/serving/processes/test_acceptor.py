"""Sharing the connections of one socket."""

import asyncio
import os
import socket

import pytest
import uvloop

from modelyard.serving.processes import acceptor
from modelyard.serving.processes.acceptor import Acceptor
from modelyard.serving.processes.board import Board, Phase


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Have workers count on each other, however long this process does not come to run."""
    monkeypatch.setattr(acceptor, "PATIENCE", 1000.0)


class Worker:
    """One worker's acceptor, and the connections that it has taken."""

    def __init__(self, board, listening, phase=Phase.READY, generation=0):
        self.slot = board.claim(generation)
        self.slot.phase = phase
        self.connections = []
        self.acceptor = Acceptor(
            listening, board, self.slot, self.connections.append, lambda: len(self.connections)
        )
        self.acceptor.update()


class Server:
    """Workers of one event loop on one socket, and clients of it."""

    def __init__(self):
        self.board = Board(4)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listening.settimeout(0)
        self.workers = []
        self.clients = []

    def worker(self, phase=Phase.READY, generation=0):
        listening = self.listening.dup()
        listening.settimeout(0)
        self.workers.append(Worker(self.board, listening, phase, generation))
        return self.workers[-1]

    def connect(self, number=1):
        address = self.listening.getsockname()
        self.clients += [socket.create_connection(address, timeout=10) for _ in range(number)]

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                for worker in self.workers:
                    worker.slot.beat()
                await asyncio.sleep(0.001)

    def close(self):
        for worker in self.workers:
            worker.acceptor.close()
            for connection in worker.connections:
                connection.close()
        for client in self.clients:
            client.close()
        self.listening.close()


@pytest.fixture
def run():
    """Run a test with a server on the event loop that workers have."""

    def start(test):
        async def with_server():
            server = Server()
            try:
                await test(server)
            finally:
                server.close()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(with_server())

    return start


def test_connections_are_spread_evenly(run):
    async def test(server):
        first, second = server.worker(), server.worker()
        server.connect(16)
        await server.until(lambda: len(first.connections) + len(second.connections) == 16)
        assert min(len(first.connections), len(second.connections)) >= 7

    run(test)


def test_a_connection_does_not_block_and_does_not_wait_for_more_to_send(run):
    async def test(server):
        worker = server.worker()
        server.connect()
        await server.until(lambda: worker.connections)
        (connection,) = worker.connections
        assert not connection.getblocking()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert worker.slot.connections == 1

    run(test)


def test_a_sibling_that_does_not_take_its_share_starves_nobody(run):
    async def test(server):
        worker = server.worker()
        idle = server.board.claim()
        idle.phase = Phase.READY

        def all_taken():
            idle.beat()
            return len(worker.connections) == 8

        server.connect(8)
        await server.until(all_taken)

    run(test)


def test_a_loading_worker_leaves_connections_to_one_that_is_ready(run):
    async def test(server):
        loading, ready = server.worker(Phase.LOADING), server.worker()
        server.connect(8)
        await server.until(lambda: len(ready.connections) == 8)
        assert not loading.connections

    run(test)


def test_a_loading_worker_takes_connections_while_nobody_else_can(run):
    async def test(server):
        worker = server.worker(Phase.LOADING)
        server.worker(Phase.DRAINING).acceptor.close()
        server.connect()
        await server.until(lambda: worker.connections)

    run(test)


def test_a_loading_worker_steps_in_when_the_ready_one_has_gone(run):
    async def test(server):
        loading, ready = server.worker(Phase.LOADING), server.worker()
        ready.acceptor.close()
        ready.slot.clear()
        server.connect()
        loading.acceptor.update()
        await server.until(lambda: loading.connections)

    run(test)


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.LOADED])
def test_a_worker_of_a_new_model_takes_nothing_before_that_is_to_be_served(run, phase):
    async def test(server):
        new = server.worker(phase, generation=1)
        server.connect(2)
        old = server.worker(Phase.LOADING)
        await server.until(lambda: len(old.connections) == 2)
        old.acceptor.close()
        old.slot.clear()
        server.connect()
        new.acceptor.update()
        await asyncio.sleep(0)
        assert not new.connections
        server.board.generation = 1
        new.acceptor.update()
        await server.until(lambda: new.connections)

    run(test)


def test_draining_takes_everything_that_waits_and_closes(run):
    async def test(server):
        worker = server.worker()
        server.connect(20)
        worker.acceptor.drain()
        assert len(worker.connections) == 20
        address = server.listening.getsockname()
        server.listening.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)

    run(test)


def test_closing_leaves_what_waits_to_others(run):
    async def test(server):
        first = server.worker()
        server.connect(3)
        first.acceptor.close()
        assert not first.connections
        first.slot.clear()
        second = server.worker()
        await server.until(lambda: len(second.connections) == 3)
        first.acceptor.update()
        assert not first.connections

    run(test)


def test_a_process_that_is_out_of_descriptors_takes_connections_later(run, monkeypatch):
    class Exhausted:
        """A listening socket of a process that may open nothing at the first two attempts."""

        def __init__(self, listening):
            self.listening = listening
            self.refused = 0

        def __getattr__(self, name):
            return getattr(self.listening, name)

        def accept(self):
            if self.refused < 2:
                self.refused += 1
                raise OSError(24, os.strerror(24))
            return self.listening.accept()

    async def test(server):
        worker = server.worker()
        exhausted = Exhausted(worker.acceptor._listening)
        monkeypatch.setattr(worker.acceptor, "_listening", exhausted)
        server.connect()
        await server.until(lambda: worker.connections)
        assert exhausted.refused == 2

    run(test)
