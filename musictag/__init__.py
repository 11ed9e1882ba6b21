"""musictag: which architecture for music auto-tagging at your data size? See README.md.

``musictag.load`` and ``musictag.Tagger`` are imported on first use, so that ``import musictag`` costs nothing.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musictag.tagger import Tagger, load

__version__ = version("musictag")
__all__ = ["Tagger", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Tagger", "load"):
        from musictag import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
