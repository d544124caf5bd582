import subprocess
import sys

from modelyard.core.codecs import CodecTable
from modelyard.core.manager import PluginManager
from modelyard.serializers.csv import CsvCodec
from modelyard.serializers.npy import NpyCodec


def test_the_codecs_are_found_by_name_and_media_type():
    registry = PluginManager.builtin().codecs
    assert {"npy", "json", "csv"} <= set(registry.names())
    codecs = CodecTable.of(registry)
    assert isinstance(codecs.reading("text/csv; charset=utf-8"), CsvCodec)
    media_type, codec = codecs.writing("application/x-npy, */*;q=0.1")
    assert media_type == "application/x-npy"
    assert isinstance(codec, NpyCodec)


def test_loading_the_plugin_does_not_import_numpy():
    program = "import sys, modelyard.serializers.plugin; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
