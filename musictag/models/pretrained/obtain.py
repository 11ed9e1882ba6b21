"""Published weights become taggers of musictag, in the user's cache."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.models.checkpoint import write_tagger
from musictag.models.pretrained import PRETRAINED, cached


def obtain(names: list[str], file: Path | None = None) -> dict[str, Path]:
    """Make the taggers of ``names`` (keys of PRETRAINED) in the cache; those that are there stay. Paths by name.

    ``file`` is the published one that holds them; by default it is downloaded. Raises MusictagError for names that do
    not exist, without a network, and for a file that is damaged.
    """
    if unknown := [name for name in names if name not in PRETRAINED]:
        raise MusictagError(f"there is no pretrained model {', '.join(unknown)}; there are {', '.join(PRETRAINED)}")
    paths = {name: cached(name) for name in names}
    missing = [name for name, path in paths.items() if not path.is_file()]
    for module in dict.fromkeys(PRETRAINED[name].converter for name in missing):
        converter = import_module(module)
        with tempfile.TemporaryDirectory() as folder:
            published = converter.fetch(Path(folder), Path(file) if file else None)
            for name in missing:
                if PRETRAINED[name].converter == module:
                    network, facts = converter.convert(published, name)
                    write_tagger(paths[name], network, name=name, **facts)
    return paths
