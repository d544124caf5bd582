import msgpack
import numpy as np
from modelyard_msgpack import MsgpackCodec

from modelyard.testing import CodecContract, PluginContract

TEXT = msgpack.packb(msgpack.ExtType(78, msgpack.packb(("<U1", [1], b"a\0\0\0"))))


class TestMsgpackCodec(CodecContract):
    codec = MsgpackCodec()
    arrays = (np.array(1 + 2j), np.zeros((0, 3), "float16"), np.ones((2, 3), ">u2").T)
    values = (*CodecContract.values, *arrays, {"a": [None, True, "ä", b"\0", {1: 0.5}]})
    documents = ((b"\x82\xa1a\x92\x01\xcb?\xf8" + bytes(6) + b"\xa1b\xc0", {"a": [1, 1.5], "b": None}),)
    malformed = (b"", b"\xc1", b"\x81\x90\x00", b"\xd4\x00\x00", b"\x92\x01", b"\x01\x02", TEXT)
    unencodable = (2**64, "\ud800", {1, 2}, np.array([None]), np.array(["text"]))

    def test_arrays_may_be_anywhere(self):
        rows = self.codec.decode(self.codec.encode({"rows": [self.values[0]]}))["rows"]
        assert np.array_equal(rows[0], self.values[0])
        assert rows[0].dtype == "float32"


class TestPlugin(PluginContract):
    plugin = "msgpack"
