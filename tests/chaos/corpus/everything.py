"""The corpus: every case of every group."""

from tests.chaos.corpus import framing, media, npy, paths, pickles, text


def corpus(canary, port=1):
    """Return all cases.

    `canary`: where only hostile code would make a file; `port`: where somebody listens whom no request
    may reach.
    """
    return [
        *npy.cases(),
        *text.cases(),
        *pickles.cases(canary),
        *media.cases(),
        *framing.cases(),
        *paths.cases(port),
    ]
