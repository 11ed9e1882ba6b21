"""Which pieces are the same tune, and how the tunes are assigned to the splits.

Folk tunes travel: the same tune is in several collections, or twice in one. A tagger must not be tested on a tune that
it was trained on, so pieces that share a title, a long run of their melodies, or a larger work form one cluster.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from hashlib import blake2b

import numpy as np

from musictag.data.songbook.notation.score import Score

#: Two pieces that share this many successive melodic intervals count as one tune.
RUN_INTERVALS = 24
#: Shares of the pieces; promised are at least 2,000 for test, 1,000 for validation, 11,000 for training.
SHARES = {"train": 0.775, "validation": 0.078, "test": 0.147}
#: A run with fewer different intervals is a scale, a trill or an arpeggio, which identifies no piece.
MIN_DIFFERENT_INTERVALS = 5
#: Collections with fewer pieces are assigned together, so that they do not all go to train as a whole.
SMALL_COLLECTION = 100

#: Articles, and words for kinds of pieces and their parts.
_EMPTY_WORDS = frozenset(
    re.findall(
        "[a-z]+",
        """
        the a an der die das den dem ein eine le la les l un une il lo o agnus air aria around ballad ballade
        benedictus canto cantus clog country credo dance dei favorite favourite first gavotte gloria hornpipe
        jig kyrie lament major march marsch menuett minor minuet movement mvmnt no nr number ohne old op opus
        polka quadrille quartet quick quickstep reel regiment regt sanctus schottische second section slow
        sonata song step strathspey string tanz titel tune untitled waltz walk walzer
        """,
    )
)


def distinctive_title(title: str | None) -> str | None:
    """A title without case, accents, punctuation, articles and kinds of piece; None if the rest identifies no tune."""
    if not title:
        return None
    text = unicodedata.normalize("NFKD", title.split(" -- ")[0]).lower().replace("ß", "ss").replace("'", "")
    text = "".join(char for char in text if not unicodedata.combining(char))
    # "the 25th" identifies a regiment; "1" and "2" only number versions of a tune
    words = re.findall(r"\d+(?:st|nd|rd|th|d)\b|[a-z]+", re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", text))
    telling = [word for word in words if word not in _EMPTY_WORDS and not word.endswith("lied")]
    return " ".join(telling) if sum(map(len, telling)) >= 6 else None


def melody_runs(score: Score) -> set[bytes]:
    """Every run of 24 successive intervals (semitones, as signed bytes) in the top part: the same in every key.

    Included with and without repeated notes, which depend on the lyrics. A shorter melody is one run.
    """
    part = score.parts[0]
    # the highest of simultaneous notes is the last, since they are sorted by pitch
    pitches = part[np.append(np.diff(part[:, 0]) > 1e-4, True), 2].astype(np.int8)
    runs: set[bytes] = set()
    for melody in (pitches, pitches[np.append(True, np.diff(pitches) != 0)]):
        intervals = np.diff(melody).tobytes()
        runs.update(intervals[at : at + RUN_INTERVALS] for at in range(max(1, len(intervals) - RUN_INTERVALS + 1)))
    return {run for run in runs if len(set(run)) >= MIN_DIFFERENT_INTERVALS}


def work_of(score: Score) -> str | None:
    """The larger work, from the file's own text, a folder of movements, or a Bach number; None if unknown."""
    if score.work:
        return f"{score.collection}: {score.work}"
    folders = score.piece_id.split("/")[:-1]
    if len(folders) > 1:
        return "/".join(folders)
    number = re.search(r"bwv(\d+)", score.piece_id)
    return f"bwv{number[1]}" if number else None


def tune_clusters(scores: Sequence[Score]) -> list[str]:
    """The cluster of each piece, named by the piece_id of its first piece."""
    titles = [distinctive_title(score.title) for score in scores]
    parent = list(range(len(scores)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[Hashable, int] = {}
    for index, (score, title) in enumerate(zip(scores, titles, strict=True)):
        keys: set[Hashable] = {*melody_runs(score)}
        if title:
            keys.add(("title", title))
        if work := work_of(score):
            keys.add(("work", work))
        for key in keys:
            a, b = root(index), root(first.setdefault(key, index))
            parent[max(a, b)] = min(a, b)
    return [scores[root(index)].piece_id for index in range(len(scores))]


def split_clusters(scores: Sequence[Score], groups: Sequence[str]) -> list[str]:
    """The split of each piece: whole clusters, the same mix of repertoire in each split, the same on every machine.

    In an order that depends on their names alone, each cluster goes to the split that lacks most of its share.
    """
    sizes = Counter(score.collection for score in scores)
    strata: dict[str, str] = {}
    members: Counter[str] = Counter(groups)
    for score, group in zip(scores, groups, strict=True):
        small = sizes[score.collection] < SMALL_COLLECTION
        region = (score.origin or "").split(",")[0] if score.collection == "essen" else ""
        strata.setdefault(group, "small" if small else f"{score.collection} {region}")
    dealt: dict[str, Counter[str]] = defaultdict(Counter)
    split_of: dict[str, str] = {}
    for group in sorted(members, key=lambda name: blake2b(name.encode(), digest_size=8).digest()):
        counts = dealt[strata[group]]
        total = sum(counts.values()) + members[group]
        split = max(SHARES, key=lambda name: SHARES[name] * total - counts[name])
        counts[split] += members[group]
        split_of[group] = split
    return [split_of[group] for group in groups]
