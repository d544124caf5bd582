"""HTTP itself: requests that two parsers could read differently, that never end, or that are none."""

from tests.chaos.corpus.case import BAD, EITHER, OK, Case
from tests.chaos.wire import CLOSED, post

_HEAD = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
_TOO_LARGE = frozenset({431})
_OR_TOO_LARGE = frozenset({200, 400, 413, 431})
_REFUSED = frozenset({400, 501})
_GONE = frozenset({400, CLOSED})


def _chunked(data, *, te=b"chunked", more=b""):
    return _HEAD + b"Transfer-Encoding: " + te + b"\r\n" + more + b"\r\n" + data


def _length(value, body=b"[1]", more=b""):
    return _HEAD + b"Content-Length: " + value + b"\r\n" + more + b"\r\n" + body


def _with(line, body=b"[1]"):
    return _HEAD + line + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _ping(line=b"", first=b"GET /ping HTTP/1.1", host=b"Host: localhost\r\n"):
    return first + b"\r\n" + host + (line + b"\r\n" if line else b"") + b"\r\n"


_END = b"0\r\n\r\n"
_GOOD = b"3\r\n[1]\r\n" + _END

# name, request, right statuses
TABLE = [
    # -- lengths ------------------------------------------------------------------------------------
    ("length", _length(b"3"), OK),
    ("length_zeros", _length(b"003"), EITHER),
    ("length_tab", _length(b"\t3"), OK),
    ("length_spaces", _length(b"   3   "), OK),
    ("length_missing", _HEAD + b"\r\n", BAD | {411}),
    ("length_nothing", _length(b""), BAD),
    ("length_negative", _length(b"-1"), BAD),
    ("length_plus", _length(b"+3"), BAD),
    ("length_float", _length(b"3.0"), BAD),
    ("length_exponent", _length(b"3e0"), BAD),
    ("length_hex", _length(b"0x3"), BAD),
    ("length_underscore", _length(b"3_0"), BAD),
    ("length_word", _length(b"three"), BAD),
    ("length_list", _length(b"3, 3"), BAD),
    ("length_list_other", _length(b"3, 4"), BAD),
    ("length_space_inside", _length(b"3 3"), BAD),
    ("length_unicode", _length("\u0663".encode()), BAD),
    ("length_superscript", _length(b"\xb3"), BAD),
    ("length_2_63", _length(b"9223372036854775808"), BAD | {413}),
    ("length_2_64", _length(b"18446744073709551616"), BAD | {413}),
    ("length_2_64_and_3", _length(b"18446744073709551619"), BAD | {413}),
    ("length_1000_digits", _length(b"9" * 1_000), BAD | {413}),
    ("length_100_gb", _length(b"100000000000"), frozenset({413})),
    ("length_twice_other", _length(b"3", more=b"Content-Length: 4\r\n"), BAD),
    ("length_twice_same", _length(b"3", more=b"Content-Length: 3\r\n"), BAD),
    ("length_twice_case", _length(b"3", more=b"CONTENT-LENGTH: 3\r\n"), BAD),
    ("length_space_before_colon", _HEAD + b"Content-Length : 3\r\n\r\n[1]", BAD),
    ("length_tab_before_colon", _HEAD + b"Content-Length\t: 3\r\n\r\n[1]", BAD),
    # -- transfer codings ---------------------------------------------------------------------------
    ("chunked", _chunked(_GOOD), OK),
    ("chunked_upper", _chunked(_GOOD, te=b"CHUNKED"), OK),
    ("chunked_spaces", _chunked(_GOOD, te=b"  chunked "), EITHER),
    ("chunked_extension", _chunked(b"3;a=b\r\n[1]\r\n" + _END), EITHER),
    ("chunked_extension_quoted", _chunked(b'3;a="b;c"\r\n[1]\r\n' + _END), EITHER),
    ("chunked_trailer", _chunked(b"3\r\n[1]\r\n0\r\nX-After: 1\r\n\r\n"), EITHER),
    ("chunked_trailer_length", _chunked(b"3\r\n[1]\r\n0\r\nContent-Length: 100\r\n\r\n"), EITHER),
    ("chunked_trailer_type", _chunked(b"3\r\n[1]\r\n0\r\nContent-Type: text/csv\r\n\r\n"), EITHER),
    ("chunked_zeros", _chunked(b"0000003\r\n[1]\r\n" + _END), EITHER),
    ("chunked_upper_hex", _chunked(b"A\r\n[1,2,3,4 ]\r\n" + _END), OK),
    ("chunked_empty", _chunked(_END), BAD),
    ("chunked_and_length", _chunked(_GOOD, more=b"Content-Length: 3\r\n"), BAD),
    ("length_and_chunked", _length(b"3", _GOOD, b"Transfer-Encoding: chunked\r\n"), BAD),
    ("chunked_and_length_0", _chunked(_END + _SMUGGLED, more=b"Content-Length: 0\r\n"), BAD),
    ("length_covers_smuggled", _length(b"%d" % (5 + len(_SMUGGLED)), _END + _SMUGGLED,
                                       b"Transfer-Encoding: chunked\r\n"), BAD),
    ("xchunked", _chunked(_GOOD, te=b"xchunked"), _REFUSED),
    ("chunkedx", _chunked(_GOOD, te=b"chunkedx"), _REFUSED),
    ("identity", _chunked(b"", te=b"identity"), _REFUSED),
    ("identity_and_length", _length(b"3", more=b"Transfer-Encoding: identity\r\n"), _REFUSED),
    ("gzip_chunked", _chunked(_GOOD, te=b"gzip, chunked"), _REFUSED),
    ("chunked_gzip", _chunked(_GOOD, te=b"chunked, gzip"), _REFUSED),
    ("chunked_chunked", _chunked(_GOOD, te=b"chunked, chunked"), _REFUSED),
    ("chunked_identity", _chunked(_GOOD, te=b"chunked, identity"), _REFUSED),
    ("chunked_twice", _chunked(_GOOD, more=b"Transfer-Encoding: chunked\r\n"), _REFUSED),
    ("chunked_then_x", _chunked(_GOOD, more=b"Transfer-Encoding: x\r\n"), _REFUSED),
    ("chunked_quoted", _chunked(_GOOD, te=b'"chunked"'), _REFUSED),
    ("chunked_parameter", _chunked(_GOOD, te=b"chunked;q=1"), _REFUSED),
    ("chunked_vertical_tab", _chunked(_GOOD, te=b"\x0bchunked"), _REFUSED),
    ("chunked_nul", _chunked(_GOOD, te=b"chunked\0"), _REFUSED),
    ("chunked_latin", _chunked(_GOOD, te=b"\xa0chunked"), _REFUSED),
    ("chunked_folded", _chunked(_GOOD, te=b"\r\n chunked"), _REFUSED),
    ("te_nothing", _chunked(_GOOD, te=b""), _REFUSED),
    ("te_space_before_colon", _HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + _GOOD, BAD),
    ("te_underscore", _HEAD + b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\n[1]", OK),
    ("te_in_1_0", _chunked(_GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1), BAD),
    # -- chunks -------------------------------------------------------------------------------------
    ("chunk_not_hex", _chunked(b"g\r\n[1]\r\n" + _END), BAD),
    ("chunk_nothing", _chunked(b"\r\n[1]\r\n" + _END), BAD),
    ("chunk_negative", _chunked(b"-3\r\n[1]\r\n" + _END), BAD),
    ("chunk_plus", _chunked(b"+3\r\n[1]\r\n" + _END), BAD),
    ("chunk_0x", _chunked(b"0x3\r\n[1]\r\n" + _END), BAD),
    ("chunk_underscore", _chunked(b"0_3\r\n[1]\r\n" + _END), BAD),
    ("chunk_space_before", _chunked(b" 3\r\n[1]\r\n" + _END), BAD),
    ("chunk_space_after", _chunked(b"3 \r\n[1]\r\n" + _END), EITHER),
    ("chunk_too_long", _chunked(b"2\r\n[1]\r\n" + _END), BAD),
    ("chunk_too_short", _chunked(b"4\r\n[1]\r\n" + _END), BAD),
    ("chunk_bare_lf", _chunked(b"3\n[1]\n0\n\n"), BAD),
    ("chunk_bare_cr", _chunked(b"3\r[1]\r0\r\r"), BAD),
    ("chunk_lf_in_extension", _chunked(b"3;a\n[1]\r\n" + _END), BAD),
    ("chunk_nul", _chunked(b"3\0\r\n[1]\r\n" + _END), BAD),
    ("chunk_2_64_and_3", _chunked(b"10000000000000003\r\n[1]\r\n" + _END), BAD | {413}),
    ("chunk_2_64_less_1", _chunked(b"ffffffffffffffff\r\n[1]\r\n" + _END), BAD | {408, 413}),
    ("chunk_100_digits", _chunked(b"f" * 100 + b"\r\n"), BAD | {413}),
    ("chunk_zeros_60k", _chunked(b"0" * 60_000 + b"3\r\n[1]\r\n" + _END), frozenset({200, 400, 431})),
    ("chunk_extension_100k", _chunked(b"3;" + b"a" * 100_000 + b"\r\n[1]\r\n" + _END), _OR_TOO_LARGE),
    ("chunk_trailers_100k", _chunked(b"3\r\n[1]\r\n0\r\n" + b"a: b\r\n" * 20_000 + b"\r\n"),
     _OR_TOO_LARGE),
    # -- first lines and headers --------------------------------------------------------------------
    ("ping", _PING, OK),
    ("version_1_0", _ping(first=b"GET /ping HTTP/1.0"), OK),
    ("version_1_0_keep_alive", _ping(b"Connection: keep-alive", b"GET /ping HTTP/1.0"), OK),
    ("version_1_0_no_host", _ping(first=b"GET /ping HTTP/1.0", host=b""), OK),
    ("version_0_9", b"GET /ping\r\n\r\n", BAD),
    ("version_0_9_named", _ping(first=b"GET /ping HTTP/0.9"), BAD | {505}),
    ("version_1_2", _ping(first=b"GET /ping HTTP/1.2"), BAD | {505}),
    ("version_2_0", _ping(first=b"GET /ping HTTP/2.0"), BAD | {505}),
    ("version_9_9", _ping(first=b"GET /ping HTTP/9.9"), BAD | {505}),
    ("version_lower", _ping(first=b"GET /ping http/1.1"), BAD),
    ("version_long", _ping(first=b"GET /ping HTTP/1.1111"), BAD),
    ("version_other", _ping(first=b"GET /ping ICE/1.1"), BAD),
    ("version_rtsp", _ping(first=b"GET /ping RTSP/1.0"), EITHER),
    ("http_2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD | {505}),
    ("upgrade_h2c", _ping(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA"), OK),
    ("upgrade_websocket", _ping(b"Connection: Upgrade\r\nUpgrade: websocket"), OK),
    ("upgrade_and_body", _with(b"Connection: Upgrade\r\nUpgrade: h2c"), OK),
    ("expect", _with(b"Expect: 100-continue"), OK),
    ("expect_other", _with(b"Expect: a-miracle"), frozenset({417})),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200, BAD),
    ("ssh", b"SSH-2.0-OpenSSH_9.0\r\n", BAD),
    ("redis", b"*1\r\n$4\r\nPING\r\n", BAD),
    ("noise", bytes(range(256)) * 8, BAD),
    ("answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BAD),
    ("blank_lines_first", b"\r\n\r\n" + _PING, EITHER),
    ("space_first", b" " + _PING, BAD),
    ("two_spaces", _ping(first=b"GET  /ping HTTP/1.1"), EITHER),
    ("three_words_more", _ping(first=b"GET /ping HTTP/1.1 x"), BAD),
    ("no_target", _ping(first=b"GET HTTP/1.1"), BAD),
    ("method_lower", _ping(first=b"get /ping HTTP/1.1"), BAD | {405}),
    ("method_unknown", _ping(first=b"FROB /ping HTTP/1.1"), BAD | {405, 501}),
    ("method_long", _ping(first=b"G" * 10_000 + b" /ping HTTP/1.1"), BAD | {405, 501}),
    ("method_nul", _ping(first=b"GE\0T /ping HTTP/1.1"), BAD),
    ("host_missing", _ping(host=b""), BAD),
    ("host_twice", _ping(b"Host: other"), BAD),
    ("host_twice_same", _ping(b"Host: localhost"), BAD),
    ("host_empty", _ping(host=b"Host:\r\n"), EITHER),
    ("host_port", _ping(host=b"Host: localhost:8080\r\n"), OK),
    ("host_ipv6", _ping(host=b"Host: [::1]:8080\r\n"), OK),
    ("host_space", _ping(host=b"Host: local host\r\n"), BAD),
    ("host_slash", _ping(host=b"Host: localhost/../x\r\n"), BAD),
    ("host_user", _ping(host=b"Host: user@localhost\r\n"), BAD),
    ("host_nul", _ping(host=b"Host: local\0host\r\n"), BAD),
    ("host_long", _ping(host=b"Host: " + b"a" * 60_000 + b"\r\n"), frozenset({200, 400, 431})),
    ("bare_lf", b"GET /ping HTTP/1.1\nHost: localhost\n\n", BAD),
    ("bare_lf_between", b"GET /ping HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", BAD),
    ("bare_lf_at_end", b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\n" + _PING, frozenset({400})),
    ("bare_cr", _ping(b"X-A: b\rX-C: d"), BAD),
    ("obs_fold", _ping(b"X-A: b\r\n c"), EITHER),
    ("obs_fold_first", b"GET /ping HTTP/1.1\r\n Host: localhost\r\n\r\n", BAD),
    ("obs_fold_length", _HEAD + b"Content-Length:\r\n 3\r\n\r\n[1]", EITHER),
    ("colon_missing", _ping(b"X-A"), BAD),
    ("name_missing", _ping(b": b"), BAD),
    ("name_space", _ping(b"X A: b"), BAD),
    ("name_space_before_colon", _ping(b"X-A : b"), BAD),
    ("name_nul", _ping(b"X-\0A: b"), BAD),
    ("name_latin", _ping(b"X-\xe9: b"), BAD),
    ("name_paren", _ping(b"X(A): b"), BAD),
    ("value_nul", _ping(b"X-A: b\0c"), BAD),
    ("value_bell", _ping(b"X-A: b\x07c"), EITHER),
    ("value_escape", _ping(b"X-A: \x1b[31m"), EITHER),
    ("value_delete", _ping(b"X-A: b\x7fc"), EITHER),
    ("value_latin", _ping(b"X-A: \xe9\xff"), OK),
    ("value_empty", _ping(b"X-A:"), OK),
    ("headers_500", _ping(b"\r\n".join(b"X-%d: a" % n for n in range(500))), OK),
    ("headers_same_500", _ping(b"\r\n".join([b"X-A: a"] * 500)), OK),
    ("headers_10k", _ping(b"\r\n".join(b"X-%d: a" % n for n in range(10_000))), _TOO_LARGE),
    ("headers_empty_20k", _ping(b"\r\n".join([b"A:"] * 20_000)), _TOO_LARGE),
    ("header_100k", _ping(b"X-A: " + b"a" * 100_000), _TOO_LARGE),
    ("header_1m", _ping(b"X-A: " + b"a" * 1_000_000), _TOO_LARGE),
    ("header_name_100k", _ping(b"X" * 100_000 + b": a"), _TOO_LARGE),
    ("header_without_end", _ping()[:-2] + b"X-A: " + b"a" * 200_000, _TOO_LARGE),
    ("target_100k", _ping(first=b"GET /" + b"a" * 100_000 + b" HTTP/1.1"), _TOO_LARGE | {414}),
    ("target_60k", _ping(first=b"GET /" + b"a" * 60_000 + b" HTTP/1.1"), frozenset({404})),
    ("query_60k", _ping(first=b"GET /ping?" + b"a=b&" * 15_000 + b" HTTP/1.1"), OK),
    ("blank_lines_100k", b"\r\n" * 50_000 + _PING, frozenset({200, 400, 431})),
    # -- hidden requests ----------------------------------------------------------------------------
    ("smuggled_behind_get", _ping(b"Content-Length: %d" % len(_SMUGGLED)) + _SMUGGLED, EITHER),
    ("smuggled_behind_head", _ping(b"Content-Length: %d" % len(_SMUGGLED), b"HEAD /ping HTTP/1.1")
     + _SMUGGLED, EITHER),
    ("smuggled_behind_fold", _HEAD + b"X: a\r\n Content-Length: 3\r\n\r\n[1]", BAD | {411}),
    ("smuggled_behind_lf_length", _HEAD + b"X: a\nContent-Length: 3\r\n\r\n[1]", BAD),
    ("smuggled_behind_nul_length", _HEAD + b"X\0: a\r\nContent-Length: 3\r\n\r\n[1]", BAD),
    ("smuggled_in_404", b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
     % len(_SMUGGLED) + _SMUGGLED, frozenset({404, 405})),
    ("smuggled_in_405", b"DELETE /ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
     % len(_SMUGGLED) + _SMUGGLED, frozenset({405})),
    ("smuggled_in_upgrade", _ping(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d"
     % len(_SMUGGLED)) + _SMUGGLED, EITHER),
    ("smuggled_in_connect", b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n" + _SMUGGLED,
     frozenset({400, 404, 405})),
]  # fmt: skip

# What ends too early: the client says that nothing more comes.
ENDS = [
    ("nothing", b"", frozenset({CLOSED})),
    ("half_a_first_line", b"POST /invo", _GONE),
    ("half_a_head", _HEAD, _GONE),
    ("half_a_body", _length(b"10"), _GONE),
    ("half_of_80_mb", _length(b"80000000", b"[1"), _GONE),
    ("no_last_chunk", _chunked(b"3\r\n[1]\r\n"), _GONE),
    ("half_a_chunk", _chunked(b"a\r\n[1]"), _GONE),
    ("half_an_end", _chunked(b"3\r\n[1]\r\n0\r\n"), _GONE),
    ("complete", post(), OK),
    ("complete_chunks", _chunked(_GOOD), OK),
]

# Requests in small pieces.
PIECES = [
    ("byte_by_byte", [bytes([b]) for b in post()], OK),
    ("byte_by_byte_chunked", [bytes([b]) for b in _chunked(_GOOD)], OK),
    ("lines", post().split(b"\n")[0:1] and [line + b"\n" for line in _PING.split(b"\n")[:-1]], OK),
]


def _tiny_chunks(number):
    body = b"[" + b"1," * (number // 2 - 1) + b"1]"
    return _chunked(b"".join(b"1\r\n%c\r\n" % b for b in body) + _END)


def cases():
    return [
        *(Case("http", name, request, want) for name, request, want in TABLE),
        *(Case("http", name, request, want, ends=True) for name, request, want in ENDS),
        *(Case("http", name, request, want) for name, request, want in PIECES),
        Case("http", "chunks_of_1_100k", _tiny_chunks(100_000), OK, slow=True),
        Case("http", "chunks_of_1_1m", _tiny_chunks(1_000_000), OK, slow=True),
        # No length is no body: what follows is another request.
        Case("http", "length_missing_with_body", _HEAD + b"\r\n" + _SMUGGLED, BAD | {411}, answers=2),
        Case("http", "length_0_with_body", _length(b"0", _SMUGGLED), BAD, answers=2),
        Case("http", "length_too_short", _length(b"1", b"5GARBAGE\r\n\r\n"), OK, answers=2),
        Case("http", "pipelined_5", _PING * 5, OK, answers=5),
        Case("http", "pipelined_5000", _PING * 5_000, frozenset({200, 429}), answers=5_000, slow=True),
        Case("http", "pipelined_bad_third", _PING * 2 + b"nonsense\r\n\r\n" + _PING, OK, answers=3),
        Case("http", "pipelined_after_close", _ping(b"Connection: close") + _SMUGGLED, OK),
        Case("http", "pipelined_body_and_ping", post() + _PING, OK, answers=2),
    ]
