"""What others describe their kernels with, as KernelTemplate objects."""

from __future__ import annotations

from .draft import Note
from .operator import OPERATOR_API, OPERATOR_PLURALS, Conversion, Source, convert

__all__ = ["OPERATOR_API", "OPERATOR_PLURALS", "Conversion", "Note", "Source", "convert"]
