"""Documents with code in them: each would make a file if anything ran it."""

import io
import pickle
import zipfile

import numpy as np
from tests.chaos.corpus.case import Case
from tests.chaos.corpus.npy import raw, saved, zipped
from tests.chaos.wire import post

PICKLES = (
    "application/python-pickle",
    "application/x-python-pickle",
    "application/pickle",
    "application/x-pickle",
)
OTHERS = (
    "application/x-npy", "application/x-npz", "application/x-torch", "application/json", "text/csv",
    "application/jsonlines", "application/octet-stream", "text/plain", "application/x-npy; pickle=true", None,
)  # fmt: skip

_REFUSED = frozenset({415})
# What runs no code may take any bytes as bytes.
_HARMLESS = frozenset({200, 400, 406, 415})


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def documents(canary):
    """Return hostile documents by name; each makes the file `canary` when it is loaded as a pickle."""
    import posix

    code = f"open({str(canary)!r}, 'w').close()"
    command = f"touch {canary}"
    call = _Call(exec, code)
    opcodes = f"c__builtin__\nexec\n(S{code!r}\ntR.".encode()
    stacked = b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c" + bytes([len(code)]) + code.encode() + b"\x85R."
    torch_zip = io.BytesIO()
    with zipfile.ZipFile(torch_zip, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(call, 2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return {
        **{f"protocol_{n}": pickle.dumps(call, n) for n in range(6)},
        "system": pickle.dumps(_Call(posix.system, command)),
        "nested": pickle.dumps({"a": [1, (2, call)]}),
        "in_a_numpy_name": b"cnumpy.core.multiarray\nfromstring\n" + opcodes,
        "opcodes": opcodes,
        "stack_global": stacked,
        "after_good_one": pickle.dumps([1]) + pickle.dumps(call),
        "object_array": saved(np.array([call], dtype=object)),
        "object_array_short": raw(
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", pickle.dumps(call)
        ),
        "zip_of_object_array": zipped(("a.npy", saved(np.array([call], dtype=object)))),
        "torch_zip": torch_zip.getvalue(),
        "torch_legacy": b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, call)),
        "memo_bomb": b"(" * 100_000 + b"t" * 100_000 + b".",
        "deep": b"]" * 100_000 + b"a" * 99_999 + b".",
        "bytes_of_a_terabyte": b"\x80\x04\x8e" + (10**12).to_bytes(8, "little") + b"x.",
        "frame_of_a_terabyte": b"\x80\x04\x95" + (10**12).to_bytes(8, "little") + b"N.",
        "nothing": b"",
        "stop": b".",
    }


def cases(canary):
    found = []
    for name, document in documents(canary).items():
        found += [
            Case("pickle", f"{name} as {content_type}", post(document, content_type), _REFUSED)
            for content_type in PICKLES
        ]
        for content_type in OTHERS:
            request = post(document, content_type, "*/*")
            found.append(Case("pickle", f"{name} as {content_type}", request, _HARMLESS))
    asked = {name: post(b"[1]", "application/json", name) for name in PICKLES}
    return found + [Case("pickle", f"accept {name}", asked[name], frozenset({406})) for name in asked]
