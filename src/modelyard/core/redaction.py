"""Which of the values that a person gives are secrets, and what is shown in their place."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

REDACTED = "********"

# As strings: compiling them takes longer than most jobs need to use one.
# Words between underscores, so that TOKENIZERS_PARALLELISM is none; PWD by itself is a folder.
_SECRET = (
    r"(?i)(?:^|[_-])(?:pass|passwd|password|passphrase|(?<=[_-])pwd|secrets?|tokens?|credentials?|pat|\w*key"  # noqa: S105 - a pattern
    r"|\w*(?:api|access|secret|private)[_-]?keys)(?:$|[_-])"
)
_OF_DATA = (
    r"(?i)(?<![^_-])(?:"
    # The tokens of a vocabulary,
    r"(?:pad|eos|bos|unk|sep|cls|mask|special|start|end|stop|prefix|suffix|image|video|audio|speech|text"
    r"|prompt|trigger|placeholder|initializer)[_-]?tokens?"
    # the keys of a sample, a batch or a table,
    r"|(?:label|target|input|output|feature|image|video|audio|text|prompt|question|answer|response|caption"
    r"|context|sample|column|field|index|sort|group|join|partition|metric|monitor|loss|score)s?[_-]?key"
    # and what is said of either.
    r"|(?:token|key)s?[_-](?:column|field|type|level|strategy)"
    r")(?![^_-])"
)
_PLACEHOLDER = r"<[^<>]*>|\[[A-Z]+\]"
_NO_TEXT = r"(?i)[-+.\d]*|true|false|none|null"
_LOGIN = r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)"


def is_secret(name: str, value: object) -> bool:
    """Tell whether a value is one: text under a name that says so, or a URL with a login.

    A number is none, whatever its name: ``max_tokens`` is 512, and 512 is in every log. Nor is what
    training calls a token or a key: ``eos_token``, ``<|endoftext|>``, ``label_key``. A name of which
    nobody can tell counts as a secret's.
    """
    if not isinstance(value, str) or re.fullmatch(_NO_TEXT, value):
        return False
    if re.search(_LOGIN, value):
        return True
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    if not re.search(_SECRET, words) or re.fullmatch(_PLACEHOLDER, value):
        return False
    return bool(re.search(_SECRET, re.sub(_OF_DATA, "", words)))


def secrets(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the secrets among the values and in the mappings and lists that they hold.

    Of a URL with a login also the login, which may be told without the rest.
    """
    # A stack: how deep the values go is for a person to choose.
    waiting = list(values.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += ((f"{name}_{key}", item) for key, item in value.items())
        elif isinstance(value, (list, tuple)):
            waiting += ((name, item) for item in value)
        elif is_secret(name, value):
            yield value
            yield from (login[0] for login in re.finditer(_LOGIN, value))


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, and what they hold, with `REDACTED` in place of each that is a secret."""
    return {name: _redacted(name, value) for name, value in values.items()}


def without_login(text: str) -> str:
    """Return the text with `REDACTED` for the password of each URL in it.

    >>> without_login("s3://someone:hunter2@host/data")
    's3://someone:********@host/data'
    """
    return re.sub(_LOGIN, rf"\1:{REDACTED}", text)


def _redacted(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _redacted(f"{name}_{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(name, item) for item in value]
    return REDACTED if is_secret(name, value) else value
