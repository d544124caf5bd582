"""Run every benchmark in turn."""

from benchmarks import codecs, startup

for module in (startup, codecs):
    module.main()
