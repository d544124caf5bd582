"""The page on which a person can try the model from a browser: ``GET /docs``.

One file, with nothing in it that is filled in: the page asks the endpoint what there is to know. Its
policy lets the browser run this one script and talk to this one origin, and nothing else.
"""

import base64
import functools
import hashlib
import re
from importlib import resources

from modelyard.core.http import Response

_INLINE = {
    "script": re.compile(r"<script>(.*?)</script>", re.DOTALL),
    "style": re.compile(r"<style>(.*?)</style>", re.DOTALL),
}


@functools.cache
def page() -> Response:
    """Return the page and its headers. Read once; not to be changed."""
    text = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    headers = {
        "content-security-policy": _policy(text),
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }
    return Response(text.encode(), "text/html; charset=utf-8", headers=headers)


def _policy(text: str) -> str:
    """Return the Content-Security-Policy that lets only what is in this text work."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes('script', text)}",
            f"style-src {_hashes('style', text)}",
            "connect-src 'self'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hashes(kind: str, text: str) -> str:
    digests = (hashlib.sha256(inline.encode()).digest() for inline in _INLINE[kind].findall(text))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
