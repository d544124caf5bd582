"""Pickles, for those who trust whoever sends them."""

from typing import ClassVar

import attrs

from modelyard.core.errors import DecodeError, EncodeError


@attrs.frozen
class PickleCodec:
    """application/python-pickle: plain data and numpy arrays, and what ``torch.save`` writes.

    A pickle can run any code, so this codec refuses both ways unless it was made with
    ``trusted=True``, and until then no endpoint offers it; nothing in a request can change that.

    Also when trusted, a pickle is first read as data that can run nothing: plain Python, arrays of
    numbers and, by torch's ``weights_only=True``, tensors, which become arrays. One that asks for
    another class is refused, or, with ``unrestricted=True``, runs.
    """

    name: ClassVar[str] = "pickle"
    media_types: ClassVar[tuple[str, ...]] = ("application/python-pickle",)
    trusted: bool = attrs.field(default=False, kw_only=True)
    unrestricted: bool = attrs.field(default=False, kw_only=True)

    def encode(self, value: object) -> bytes:
        """Return plain Python with arrays of numbers in it as a pickle of protocol 4.

        Raises `EncodeError` for objects of any other class, and where the codec is not trusted.
        """
        if not self.trusted:
            raise EncodeError(_untrusted("written"))
        from modelyard.serializers._plain_pickles import dump

        try:
            return dump(value)
        except EncodeError:
            raise
        # Lists nested too deep, or what an object's own methods raise.
        except Exception as error:
            raise EncodeError(f"a {type(value).__name__} cannot be pickled: {error}") from error

    def decode(self, body: bytes) -> object:
        """Return what the pickle holds. Raises `DecodeError`, also where the codec is not trusted."""
        if not self.trusted:
            raise DecodeError(_untrusted("read"))
        from modelyard.serializers._plain_pickles import NotPlainError, load

        try:
            try:
                return load(body)
            except NotPlainError:
                if not self.unrestricted:
                    raise
                return load(body, unrestricted=True)
        except DecodeError:
            raise
        # A pickle, damaged or made up, raises whatever it comes across.
        except Exception as error:
            raise DecodeError(f"not a pickle that can be read: {type(error).__name__}") from error


def _untrusted(verb: str) -> str:
    return f"pickles can run code, and are {verb} only by a codec that was made with trusted=True"
