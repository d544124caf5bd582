"""Sends a corpus to a server."""

import itertools
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.wire import exchange, local_secrets, problems


def violations(server, cases, *, clients=4):
    """Send every case; return what is wrong as texts, and the slowest cases as (seconds, name)."""
    secrets = local_secrets(server.base)

    def send(numbered):
        number, case = numbered
        patience = 90.0 if case.slow else 30.0
        outcome = exchange(server.port, case.request, ends=case.ends, patience=patience, number=number)
        found = problems(outcome, case.want, answers=case.answers, secrets=secrets)
        return [f"{case}: {problem}" for problem in found], (outcome.seconds, str(case))

    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(send, enumerate(cases)))
    return list(itertools.chain.from_iterable(found for found, _ in done)), sorted(
        (seconds for _, seconds in done), reverse=True
    )
