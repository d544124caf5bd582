"""Run every benchmark in turn."""

from benchmarks import codecs, launch, startup, training

for module in (startup, launch, training, codecs):
    module.main()
