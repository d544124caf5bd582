"""The contract test kit: one class of tests per noun, for built-ins and third parties alike.

Subclass a contract, say what to test, and pytest runs every promise of the noun against it::

    class TestMyCodec(CodecContract):
        codec = MyCodec()
        values = (numpy.zeros((2, 3)),)

Needs pytest (the extra ``test``).
"""
