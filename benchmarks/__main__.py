"""Run every benchmark in turn."""

from benchmarks import codecs, launch, startup

for module in (startup, launch, codecs):
    module.main()
