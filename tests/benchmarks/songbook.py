"""Speed of making the embedded data set."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator

from musictag.data.datasets.songbook import Songbook
from tests.benchmarks.figures import Figure

_RENDERED_SONGS = 60


def benchmark() -> Iterator[Figure]:
    """Speed of making songbook: reading the scores (once), tagging a song, rendering a song."""
    with tempfile.TemporaryDirectory() as folder:
        source = Songbook(folder, num_songs=_RENDERED_SONGS, validation_songs=1, test_songs=1, workers=1)
        began = time.perf_counter()
        manifest = source.manifest()
        yield Figure("all scores read, one core", time.perf_counter() - began, "s")
        read, seconds = source.reader(), []
        for song_id, path in zip(manifest.song_ids, manifest.paths, strict=True):
            began = time.perf_counter()
            read(song_id, path)
            seconds.append(time.perf_counter() - began)
        yield Figure("songs of 10 s rendered, one core", 1 / statistics.median(seconds), "songs / s")
