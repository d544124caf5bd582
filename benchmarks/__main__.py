"""Run every benchmark in turn; arguments go to that of the model server."""

import sys

from benchmarks import codecs, launch, startup, training
from benchmarks.serving import run as serving

for module in (startup, launch, training, codecs):
    module.main()
serving.main(sys.argv[1:])
