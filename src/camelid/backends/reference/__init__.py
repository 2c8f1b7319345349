"""The slow truth in numpy that the other backends are tested against."""

from .backend import ReferenceBackend as ReferenceBackend
