"""Run every benchmark in turn; arguments go to that of the model server."""

import sys

from benchmarks import codecs, launch, packaging, plugins, startup, training
from benchmarks.gpu import run as gpu
from benchmarks.serving import run as serving

for module in (startup, plugins, launch, training, codecs, packaging):
    module.main()
serving.main(sys.argv[1:])
gpu.main()
