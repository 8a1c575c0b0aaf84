"""Exceptions of the PyTorch backend."""

from torch._dynamo.exc import ShortenTraceback

from kiln import Unsupported


class UnsupportedGraph(Unsupported, ShortenTraceback):
    """A graph has operations that Kiln does not compile, and ``strict=True`` forbids to run them eagerly.

    It is a ``kiln.Unsupported``. TorchDynamo passes it on as it is, since it is also one of the exceptions that it shortens.
    """

    def __init__(self, message: str):
        ShortenTraceback.__init__(self, message, first_useful_frame=None)

    def __str__(self) -> str:
        return str(self.args[0])
