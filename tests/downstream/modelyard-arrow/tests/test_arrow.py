import numpy as np
import pyarrow as pa
from modelyard_arrow import ArrowCodec

from modelyard.testing import CodecContract, PluginContract


def stream(*tables):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return sink.getvalue().to_pybytes()


SOME = pa.table({"n": [1, 2], "s": ["a", "b"]})
TWICE, NULLS = SOME.rename_columns(["n", "n"]), pa.table({"n": [1, None]})
FAR = stream(SOME).replace(b"\0\0\0\0\1\0\0\0\2\0\0\0", b"\0\0\0\0\5\0\0\0\2\0\0\0")
"""Its first text ends where its texts have none."""


class TestArrowCodec(CodecContract):
    codec = ArrowCodec()
    values = (*CodecContract.values, np.array([True, False]), np.zeros((0, 3), ">f2"), ["a", "ä"])
    documents = ((stream(pa.table({"arr_0": [1, 2]}), pa.table({"arr_0": [3]})), np.array([1, 2, 3])),)
    malformed = (b"", b"\xff\xff\xff\xff", stream(NULLS), stream(TWICE), FAR)
    unencodable = (3.0, [[1], [2, 3]], np.array([1j]), {1: [2.0]}, np.array([[True]]), {"a": [1], "b": []})

    def test_columns_are_views_of_the_body(self):
        columns = self.codec.decode(stream(SOME))
        assert not columns["n"].flags.owndata
        assert columns["s"] == ["a", "b"]


class TestPlugin(PluginContract):
    plugin = "arrow"
