import base64
import hashlib
import re
from html.parser import HTMLParser

from modelyard.serving.pages.page import page

VOID = {"meta", "link", "input", "path", "rect"}


class Elements(HTMLParser):
    """The elements of a page, its inline scripts and styles, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inline, self.open = [], {"script": [], "style": []}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.inline:
            self.inline[self.open[-1]].append(data)


def read():
    return Elements(page().body.decode())


def policy():
    directives = page().headers["content-security-policy"].split("; ")
    return {name: values for name, *values in (directive.split(" ") for directive in directives)}


def test_the_policy_allows_this_script_and_this_style_and_no_other():
    elements = read()
    for kind, texts in elements.inline.items():
        assert len(texts) == 1
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert policy()[f"{kind}-src"] == [f"'sha256-{digest}'"]
    assert policy()["default-src"] == ["'none'"]
    assert policy()["connect-src"] == ["'self'"]
    assert "unsafe" not in page().headers["content-security-policy"]


def test_the_page_is_whole():
    elements = read()
    assert not elements.open
    identities = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(identities) == len(set(identities))
    labelled = {attrs["for"] for tag, attrs in elements.found if "for" in attrs}
    assert labelled <= set(identities)
    used = set(re.findall(r'\$\("([\w-]+)"\)', elements.inline["script"][0]))
    assert used <= set(identities)


def test_nothing_in_it_is_from_elsewhere_or_runs_by_itself():
    elements = read()
    for tag, attrs in elements.found:
        assert tag not in {"iframe", "object", "embed", "base"}
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "action", "formaction"):
            assert re.match(r"$|#|data:image/|[a-z.]+$", attrs.get(name, "")), attrs
    style, script = elements.inline["style"][0], elements.inline["script"][0]
    assert "url(" not in style
    assert "@import" not in style
    assert "//" not in re.sub(r"//.*", "", script)
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert way not in script


def test_the_headers():
    said = page()
    assert said.status == 200
    assert said.content_type == "text/html; charset=utf-8"
    assert said.headers["x-content-type-options"] == "nosniff"
    assert page() is said
    assert all(value.isascii() for value in said.headers.values())
