"""Methods and paths: everything that this server has not."""

from tests.chaos.corpus.case import Case
from tests.chaos.wire import post

NOT_FOUND = frozenset({404})
NO_METHOD = frozenset({405})
_BAD_TARGET = frozenset({400, 404})

METHODS = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "COPY", "MOVE",
           "LOCK", "UNLOCK", "SEARCH", "PURGE", "SUBSCRIBE", "REPORT", "BIND", "LINK")  # fmt: skip

MISSING = [
    "/", "/models", "/models/a", "/api/description", "/predictions/a", "/v2/models", "/admin",
    "/shutdown", "/reload", "/-/reload", "/workflows", "/ping/", "/ping/x", "/PING", "/invocations/",
    "/invocations/x", "/Invocations", "//invocations", "/./invocations", "/x/../invocations", "/..",
    "/../ping", "/../../../../etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd",
    "/%2finvocations", "/ping%00", "/ping%0d%0aX-Evil:%20yes", "/ping%20", "/ping;a=b", "/%ff%fe",
    "/%zz", "/%", "/ping%2f..%2fping", "/invocations%3f", "/\\..\\..\\windows", "/docs/../../x",
    "/metrics/x", "/openapi.json/x", "/static/../x", "/endpoints", "/endpoints/", "/endpoints/a",
    "/endpoints//invocations", "/endpoints/../invocations", "/endpoints/a/../invocations",
    "/endpoints/%2e%2e/invocations", "/endpoints/a/b/invocations", "/endpoints/-a/invocations",
    "/endpoints/a-/invocations", "/endpoints/a--b/invocations",
    "/endpoints/" + "a" * 64 + "/invocations", "/endpoints/" + "a" * 4_096 + "/invocations",
    "/endpoints/" + "a-" * 4_000 + "/invocations", "/endpoints/a%00/invocations",
    "/endpoints/%c3%bc/invocations", "/endpoints/a/invocations/", "/endpoints/a/invocations%2f..",
    "/endpoints/a/invocations-response-stream/x",
]  # fmt: skip


def _request(method, target, body=b""):
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def cases(port=1):
    """Return the cases. `port`: where somebody listens whom no request may reach."""
    elsewhere = f"http://127.0.0.1:{port}/model.mar"
    found = []
    for method in METHODS:
        want = NO_METHOD | ({400} if method in {"TRACE", "PURGE", "SEARCH"} else set())
        found.append(Case("paths", f"{method} /invocations", _request(method, "/invocations"), want))
        found.append(Case("paths", f"{method} /nothing", _request(method, "/nothing"), NOT_FOUND))
        if method not in {"GET", "HEAD"}:
            found.append(Case("paths", f"{method} /ping", _request(method, "/ping"), want))
            found.append(
                Case("paths", f"{method} an endpoint", _request(method, "/endpoints/a/invocations"), want)
            )
    pages = ("/ping", "/metrics", "/openapi.json", "/docs", "/execution-parameters")
    found += [Case("paths", f"POST {page}", _request("POST", page), NO_METHOD) for page in pages]
    for path in MISSING:
        name = path if len(path) < 60 else f"{path[:40]}... of {len(path)}"
        found += [
            Case("paths", f"GET {name}", _request("GET", path), _BAD_TARGET),
            Case("paths", f"POST {name}", post(path=path.encode()), _BAD_TARGET),
        ]
    return [
        *found,
        Case("paths", "register by url", _request("POST", f"/models?url={elsewhere}"), NOT_FOUND),
        Case(
            "paths",
            "register by body",
            _request("POST", "/models", b'{"url": "%b"}' % elsewhere.encode()),
            NOT_FOUND,
        ),
        Case("paths", "unregister", _request("DELETE", "/models/default"), NOT_FOUND),
        Case("paths", "scale", _request("PUT", "/models/default?min_worker=0"), NOT_FOUND),
        Case("paths", "proxy", _request("GET", elsewhere), frozenset({200, 400, 404})),
        Case("paths", "absolute ping", _request("GET", "http://localhost/ping"), frozenset({200})),
        Case("paths", "absolute invocations", post(path=b"http://localhost/invocations"), frozenset({200})),
        Case(
            "paths",
            "absolute with a user",
            _request("GET", "http://a:b@localhost/ping"),
            frozenset({200, 400}),
        ),
        Case("paths", "other scheme", _request("GET", "file:///etc/passwd"), _BAD_TARGET),
        Case("paths", "no path", _request("GET", "ping"), frozenset({400})),
        Case("paths", "authority", _request("GET", "localhost:80"), frozenset({400, 404})),
        Case("paths", "star", _request("OPTIONS", "*"), frozenset({200, 204, 400, 404, 405})),
        Case("paths", "fragment", _request("GET", "/ping#x"), frozenset({200, 400})),
        Case("paths", "not ascii", _request("GET", "/p\xef\xffng"), _BAD_TARGET),
        Case("paths", "control", _request("GET", "/ping\x01"), _BAD_TARGET),
        Case("paths", "delete character", _request("GET", "/ping\x7f"), _BAD_TARGET),
        Case("paths", "connect", _request("CONNECT", f"127.0.0.1:{port}"), frozenset({400, 404, 405})),
        Case("paths", "an endpoint", post(path=b"/endpoints/digits/invocations"), frozenset({200})),
        Case(
            "paths",
            "an endpoint's stream",
            post(path=b"/endpoints/digits/invocations-response-stream"),
            frozenset({200}),
        ),
        Case(
            "paths", "an endpoint's query", post(path=b"/endpoints/digits/invocations?a=b"), frozenset({200})
        ),
    ]
