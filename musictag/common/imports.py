"""What torchmetrics imports for metrics that are not used here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_ASKS = "torchmetrics.utilities.imports"


class _WithoutOthers(MetaPathFinder):
    """Lets torchmetrics find neither onnxruntime nor transformers, which it imports wherever they are installed: that
    takes a second, and a process in which onnxruntime is imported cannot fork, as the workers of a loader abort when
    they end."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _ASKS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_without(module: ModuleType) -> None:
                run(module)
                for name in vars(module):
                    if name.startswith(("_ONNXRUNTIME_", "_TRANSFORMERS_")):
                        setattr(module, name, False)

            spec.loader.exec_module = run_without  # type: ignore[method-assign]
        return spec


def spare_torchmetrics() -> None:
    """To be called before anything imports torchmetrics."""
    sys.meta_path.insert(0, _WithoutOthers())
