"""Arrays: NPY, NPZ and safetensors that are not what they say."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
from tests.chaos.corpus.case import BAD, EITHER, OK, Case, bodies
from tests.chaos.wire import post

NPY = "application/x-npy"
NPZ = "application/x-npz"
TORCH = "application/x-torch"


def raw(header, data=b"", version=(1, 0), length=None):
    """Return an NPY document; `length`: what its header's length field says, if not the truth."""
    if isinstance(header, str):
        header = header.encode("latin-1")
    size = len(header) if length is None else length
    return (
        b"\x93NUMPY" + bytes(version) + size.to_bytes(2 if version[0] == 1 else 4, "little") + header + data
    )


def npy(shape="(2,)", descr="'<f4'", order="False", data=b"\0" * 8, **options):
    """Return an NPY document with those fields, whatever they are."""
    return raw(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n", data, **options)


def saved(array):
    """Return an array as numpy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def zipped(*members, compression=zipfile.ZIP_DEFLATED):
    """Return a zip file of (name, content) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def tensors(header, data=b"", length=None):
    """Return a safetensors document."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


_GOOD = saved(np.arange(6, dtype="<f4").reshape(2, 3))

NPY_TABLE = [
    ("float32", _GOOD, OK),
    ("one_row", saved(np.ones((1, 4), "<f4")), OK),
    ("float64", saved(np.ones(3)), OK),
    ("float16", saved(np.ones(3, "f2")), OK),
    ("int64", saved(np.arange(3)), OK),
    ("uint8", saved(np.arange(3, dtype="u1")), OK),
    ("bool", saved(np.array([True, False])), OK),
    ("bool_of_2", npy("(2,)", "'|b1'", data=b"\x02\xff"), EITHER),
    ("complex64", saved(np.ones(2, "c8")), OK),
    ("big_endian", saved(np.arange(4, dtype=">f4")), OK),
    ("big_endian_int", saved(np.arange(4, dtype=">i8")), OK),
    ("native_mark", npy(descr="'=f4'"), OK),
    ("fortran", saved(np.asfortranarray(np.arange(6.0).reshape(2, 3))), OK),
    ("nan_and_infinity", saved(np.array([np.nan, np.inf, -np.inf])), OK),
    ("scalar", saved(np.float32(1)), OK),
    ("empty_array", saved(np.ones((0,), "<f4")), OK),
    ("no_rows", saved(np.ones((0, 3), "<f4")), OK),
    ("32_dimensions", saved(np.ones((1,) * 32, "<f4")), OK),
    ("version_2", npy(version=(2, 0)), OK),
    ("version_3", npy(version=(3, 0)), OK),
    (
        "spaces_in_header",
        raw(" {'descr' : '<f4',  'fortran_order':False,'shape':( 2 , )}   \n", b"\0" * 8),
        OK,
    ),
    ("no_newline", raw("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", b"\0" * 8), OK),
    ("unaligned", raw("{'descr':'<f8','fortran_order':False,'shape':(1,)}", b"\0" * 8), OK),
    ("empty_body", b"", BAD),
    ("magic_alone", b"\x93NUMPY", BAD),
    ("magic_and_version", b"\x93NUMPY\x01\x00", BAD),
    ("half_a_length", b"\x93NUMPY\x01\x00\x76", BAD),
    ("wrong_magic", b"\x93NUMPX" + _GOOD[6:], BAD),
    ("shifted_magic", b" " + _GOOD, BAD),
    ("version_0", npy(version=(0, 0)), BAD),
    ("version_9", npy(version=(9, 0)), BAD),
    ("version_1_9", npy(version=(1, 9)), BAD),
    ("header_cut", _GOOD[:40], BAD),
    ("header_of_nothing", raw("", b"\0" * 8), BAD),
    ("header_longer_than_body", npy(length=65535), BAD),
    ("header_shorter_than_it_is", npy(length=10), BAD),
    ("header_4_gb", npy(version=(2, 0), length=2**32 - 1), BAD),
    ("data_cut", _GOOD[:-1], BAD),
    ("no_data", _GOOD[:128], BAD),
    ("data_too_long", _GOOD + b"\0", BAD),
    ("two_documents", _GOOD + _GOOD, BAD),
    ("huge_and_cut", npy("(100000,)", data=b"\0" * 399_999), BAD),
    ("terabyte", npy("(1000000000000,)"), BAD),
    ("terabyte_in_4", npy("(1000, 1000, 1000, 1000)"), BAD),
    ("exabyte", npy("(1152921504606846976,)"), BAD),
    ("overflow_64", npy("(4294967296, 4294967296)", data=b""), BAD),
    ("overflow_to_8", npy("(4611686018427387906,)"), BAD),
    ("shape_2_63", npy(f"({2**63},)"), BAD),
    ("shape_2_64", npy(f"({2**64},)"), BAD),
    ("shape_10_1000", npy(f"({10**1000},)"), BAD),
    ("shape_10_9000", npy("(1" + "0" * 9000 + ",)"), BAD),
    ("shape_0_times_2_62", npy(f"(0, {2**62})", data=b""), EITHER),
    ("shape_0_times_2_63", npy(f"(0, {2**63})", data=b""), BAD),
    ("shape_0_times_10_100", npy(f"(0, {10**100})", data=b""), BAD),
    ("shape_65_dimensions", npy("(" + "1," * 65 + ")", data=b"\0" * 4), BAD),
    ("shape_3000_dimensions", npy("(" + "1," * 3000 + ")", data=b"\0" * 4), BAD),
    ("shape_negative", npy("(-2,)"), BAD),
    ("shape_minus_one", npy("(-1, 2)"), BAD),
    ("shape_minus_two_twice", npy("(-1, -2)"), BAD),
    ("shape_bool", npy("(True, 2)"), BAD),
    ("shape_float", npy("(2.0,)"), BAD),
    ("shape_text", npy("('2',)"), BAD),
    ("shape_list", npy("[2]"), BAD),
    ("shape_number", npy("2"), BAD),
    ("shape_none", npy("None"), BAD),
    ("shape_nested", npy("((2,),)"), BAD),
    ("shape_set", npy("{2}"), BAD),
    ("shape_complex", npy("(2j,)"), BAD),
    ("shape_product", npy("(1*2,)"), BAD),
    ("shape_call", npy("(len('ab'),)"), BAD),
    ("object", saved(np.array([{"a": 1}, None], dtype=object)), BAD),
    ("object_without_pickle", npy(descr="'|O'"), BAD),
    ("object_8", npy(descr="'O8'"), BAD),
    ("structure", saved(np.zeros(2, dtype=[("a", "<f4"), ("b", "O")])), BAD),
    ("structure_of_numbers", saved(np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")])), BAD),
    ("structure_nested", npy(descr="[('a', [('b', [('c', '<f4')])])]"), BAD),
    ("text_array", saved(np.array(["ab", "cd"])), BAD),
    ("bytes_array", saved(np.array([b"ab", b"cd"])), BAD),
    ("dates", saved(np.array(["2020-01-01"], dtype="M8[D]")), BAD),
    ("durations", saved(np.array([1], dtype="m8[s]")), BAD),
    ("void", npy(descr="'|V4'"), BAD),
    ("void_huge", npy(descr="'|V2147483647'"), BAD),
    ("no_size_text", npy(descr="'<U0'", data=b""), BAD),
    ("long_double", npy(descr="'<f16'", data=b"\0" * 32), BAD),
    ("subarray", npy(descr="'(2,)<f4'"), BAD),
    ("comma_dtype", npy(descr="'f4,f4'"), BAD),
    ("descr_number", npy(descr="4"), BAD),
    ("descr_none", npy(descr="None"), BAD),
    ("descr_bytes", npy(descr="b'<f4'"), BAD),
    ("descr_word", npy(descr="'float32'"), BAD),
    ("descr_two_marks", npy(descr="'<<f4'"), BAD),
    ("descr_nothing", npy(descr="''"), BAD),
    ("descr_long", npy(descr="'" + "f" * 9000 + "'"), BAD),
    ("descr_nul", npy(descr="'<f4\\x00'"), BAD),
    ("order_text", npy(order="'False'"), BAD),
    ("order_number", npy(order="0"), BAD),
    ("order_none", npy(order="None"), BAD),
    ("key_missing", raw("{'descr': '<f4', 'shape': (2,)}", b"\0" * 8), BAD),
    ("key_too_many", raw("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", b"\0" * 8), BAD),
    ("key_twice", raw("{'descr':'<f4','fortran_order':False,'shape':(9,),'shape':(2,)}", b"\0" * 8), EITHER),
    ("key_bytes", raw("{b'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", b"\0" * 8), BAD),
    ("key_unhashable", raw("{[]: '<f4', 'fortran_order': False, 'shape': (2,)}", b"\0" * 8), BAD),
    ("header_list", raw("['<f4', False, (2,)]", b"\0" * 8), BAD),
    ("header_number", raw("5", b"\0" * 8), BAD),
    ("header_json", raw('{"descr": "<f4", "fortran_order": false, "shape": [2]}', b"\0" * 8), BAD),
    ("header_call", raw("__import__('os').abort()"), BAD),
    ("header_lambda", raw("(lambda: 1)()"), BAD),
    ("header_fstring", raw("{'descr': f'{1}', 'fortran_order': False, 'shape': ()}"), BAD),
    ("header_statements", raw("import os\nos.abort()"), BAD),
    ("header_nul", raw("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\0", b"\0" * 8), BAD),
    ("header_not_utf8", raw(b"{'descr': '<f4\xff', 'fortran_order': False, 'shape': (2,)}"), BAD),
    ("header_escape", raw("{'descr': '\\N{SNOWMAN}', 'fortran_order': False, 'shape': (2,)}"), BAD),
    ("header_bad_escape", raw("{'descr': '\\d', 'fortran_order': False, 'shape': (2,)}"), BAD),
    ("header_bad_number", raw("{'descr': 0_0_, 'fortran_order': 1if 1else 2, 'shape': (2,)}"), BAD),
    ("header_open", raw("{'descr': "), BAD),
    ("header_nested_brackets", raw("[" * 9_900), BAD),
    ("header_nested_closed", raw("[" * 4_900 + "]" * 4_900), BAD),
    ("header_nested_parens", raw("(" * 9_900), BAD),
    ("header_minus_9000", raw("-" * 9_000 + "1"), BAD),
    ("header_not_9000", raw("not " * 2_400 + "1"), BAD),
    ("header_plus_9000", raw("1" + "+1" * 4_900), BAD),
    ("header_digits_9000", raw("9" * 9_000), BAD),
    ("header_dots", raw("a" + ".a" * 4_900), BAD),
    ("header_lambdas", raw("lambda:" * 1_400 + "1"), BAD),
    ("header_nest_2m_v2", raw("[" * 2_000_000, version=(2, 0)), BAD),
    ("header_spaces_60k", raw(" " * 60_000 + "{}"), BAD),
    ("pickle_bare", pickle.dumps([1, 2]), BAD),
    ("pickle_protocol_0", pickle.dumps([1, 2], 0), BAD),
    ("zip", zipped(("a.npy", _GOOD)), BAD),
    ("gzip", b"\x1f\x8b\x08" + b"\0" * 20, BAD),
    ("text", b"1,2,3\n", BAD),
    ("json", b"[1]", BAD),
    ("zeros", b"\0" * 1000, BAD),
]

NPZ_TABLE = [
    ("npz_empty_body", b"", BAD),
    ("npz_empty_zip", zipped(), EITHER),
    ("npz_end_record_only", b"PK\5\6" + b"\0" * 18, EITHER),
    ("npz_cut", zipped(("a.npy", _GOOD))[:-30], BAD),
    (
        "npz_middle_overwritten",
        zipped(("a.npy", _GOOD), compression=zipfile.ZIP_STORED).replace(b"NUMPY", b"LUMPY"),
        BAD,
    ),
    ("npz_noise", b"PK\3\4" + bytes(range(256)) * 4, BAD),
    ("npz_object", zipped(("a.npy", saved(np.array([{}], dtype=object)))), BAD),
    ("npz_pickle", zipped(("a.npy", pickle.dumps({}))), BAD),
    ("npz_member_cut", zipped(("a.npy", _GOOD[:-1])), BAD),
    ("npz_member_terabyte", zipped(("a.npy", npy("(1000000000000,)"))), BAD),
    ("npz_not_npy", zipped(("readme.txt", b"hello")), BAD),
    ("npz_bomb", zipped(("a.npy", raw("[" * 100)), ("b.npy", bytes(150_000_000))), BAD),
    ("npz_bomb_honest", zipped(("a.npy", npy("(37500000,)", data=bytes(150_000_000)))), BAD | {413}),
    ("npz_many_members", zipped(*((f"{n}.npy", b"") for n in range(20_000))), BAD),
    ("npz_traversal", zipped(("../../../x.npy", _GOOD)), frozenset({200, 400, 406})),
    ("npz_same_name_twice", zipped(("a.npy", _GOOD)) + zipped(("a.npy", _GOOD)), frozenset({200, 400, 406})),
    (
        "npz_encrypted_flag",
        zipped(("a.npy", _GOOD)).replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),
        BAD,
    ),
    ("npz_unknown_method", zipped(("a.npy", _GOOD)).replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0"), BAD),
]

_F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

TORCH_TABLE = [
    ("torch_empty_body", b"", BAD),
    ("torch_half_a_length", b"\x10\0\0", BAD),
    ("torch_length_2_64", tensors({}, length=2**64 - 1), BAD),
    ("torch_length_100_mb", tensors({}, length=100_000_000), BAD),
    ("torch_no_json", tensors(b"nonsense"), BAD),
    ("torch_deep_json", tensors(b"[" * 100_000), BAD),
    ("torch_list", tensors(b"[]"), BAD),
    ("torch_not_utf8", tensors(b"\xff\xfe"), BAD),
    ("torch_no_tensor", tensors({}), EITHER),
    ("torch_no_data", tensors({"a": _F32}), BAD),
    ("torch_data_too_long", tensors({"a": _F32}, b"\0" * 9), BAD),
    ("torch_terabyte", tensors({"a": _F32 | {"shape": [10**12]}}, b"\0" * 8), BAD),
    ("torch_overflow", tensors({"a": _F32 | {"shape": [2**62, 2**62]}}, b"\0" * 8), BAD),
    ("torch_negative", tensors({"a": _F32 | {"shape": [-2]}}, b"\0" * 8), BAD),
    ("torch_float_shape", tensors({"a": _F32 | {"shape": [2.0]}}, b"\0" * 8), BAD),
    ("torch_offsets_wrong", tensors({"a": _F32 | {"data_offsets": [4, 12]}}, b"\0" * 8), BAD),
    ("torch_offsets_swapped", tensors({"a": _F32 | {"data_offsets": [8, 0]}}, b"\0" * 8), BAD),
    ("torch_overlap", tensors({"a": _F32, "b": _F32}, b"\0" * 8), BAD),
    ("torch_dtype", tensors({"a": _F32 | {"dtype": "PICKLE"}}, b"\0" * 8), BAD),
    (
        "torch_bool_of_2",
        tensors({"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, b"\2\xff"),
        frozenset({200, 400}),
    ),
    ("torch_zip", zipped(("archive/data.pkl", pickle.dumps({}))), BAD),
    ("torch_pickle", pickle.dumps({}), BAD),
]


def cases():
    return [
        *bodies("npy", NPY, NPY_TABLE),
        *bodies("npz", NPZ, NPZ_TABLE),
        *bodies("torch", TORCH, TORCH_TABLE),
        Case("npy", "integer_as_json", post(saved(np.arange(3)), NPY, "application/json"), OK),
        Case(
            "npy", "nan_as_json", post(saved(np.array([np.nan])), NPY, "application/json"), frozenset({406})
        ),
        Case(
            "npy", "complex_as_json", post(saved(np.ones(2, "c8")), NPY, "application/json"), frozenset({406})
        ),
        Case("npy", "cube_as_csv", post(saved(np.ones((2, 2, 2))), NPY, "text/csv"), frozenset({406})),
    ]
