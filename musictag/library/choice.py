"""Which tags of a song are wanted, from the scores of all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from musictag.common.errors import MusictagError
from musictag.inference.tagger import Tagger


@dataclass(frozen=True)
class Choice:
    """The ``top`` highest tags, with a score of at least ``threshold``, and those in ``names``; None: no condition.

    ``confident``: of the tags that a song surely has (``Tagger.confident``), with their probabilities.
    Measures (regression tags) have no order or threshold: all of them are chosen, or those in ``names``.
    """

    top: int | None = None
    threshold: float | None = None
    names: tuple[str, ...] | None = None
    confident: bool = False

    def __call__(self, tagger: Tagger, scores: Mapping[str, float]) -> dict[str, float]:
        """The chosen ones of ``scores``, which are ordered, highest first."""
        wanted = {name: score for name, score in scores.items() if self.names is None or name in self.names}
        ranked = labels(tagger, wanted)
        chosen = [name for name in ranked if self.threshold is None or wanted[name] >= self.threshold][: self.top]
        return {name: score for name, score in wanted.items() if name in chosen or name not in ranked}

    def __str__(self) -> str:
        said = {"top": self.top, "threshold": self.threshold, "tags": self.names and ",".join(self.names)}
        said["confident"] = self.confident or None
        return " ".join(f"{name}={value}" for name, value in said.items() if value is not None) or "all tags"


def labels(tagger: Tagger, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are tags which a song has or has not."""
    kinds = dict(zip(tagger.tag_names, tagger.tag_kinds, strict=True))
    return [name for name in names if kinds[name] == "classification"]


def named_tags(given: Sequence[str] | None, tagger: Tagger) -> tuple[str, ...] | None:
    """Tags from a command line, with commas between them; raises MusictagError for one that ``tagger`` lacks."""
    if given is None:
        return None
    names = [part.strip() for text in given for part in ([text] if text in tagger.tag_names else text.split(","))]
    for name in names:
        if name not in tagger.tag_names:
            similar = difflib.get_close_matches(name, tagger.tag_names, n=3) or tagger.tag_names
            raise MusictagError(f"--tags: this model has no tag {name!r}; it has {', '.join(similar)}")
    return tuple(dict.fromkeys(names))
