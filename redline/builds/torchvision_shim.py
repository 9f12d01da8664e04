"""Lets a torchvision that was built for CUDA be imported beside a CPU-only torch. Copied into environments of builds.

Its compiled library cannot be loaded there, and its Python then fails at import, where it registers shapes for two of
that library's operators ("operator torchvision::nms does not exist"). Declaring the two is enough: the transforms that
a model's processor needs are plain Python over torch. The operators themselves stay without an implementation.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

REGISTERS = "torchvision._meta_registrations"
OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Finds nothing; declares the operators that are missing just before they are registered for."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the signature that Python calls
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """None, always: the module is found by whoever is next."""
        if fullname == REGISTERS:
            sys.meta_path.remove(self)
            torch = importlib.import_module("torch")
            for name in OPERATORS:
                if not hasattr(torch.ops.torchvision, name):
                    torch.library.define(f"torchvision::{name}", SIGNATURE)
        return None


sys.meta_path.insert(0, DeclareOperators())
