"""The contract of data sources."""

from __future__ import annotations

import json
import pickle

import numpy as np

from musictag.data.audio.decode import Reading
from musictag.data.datasets import Source
from musictag.data.manifest import SPLITS
from musictag.models.factory import settings


def check_source(source: Source, songs: int = 3) -> None:
    """Raise AssertionError unless the data source fulfils its contract (see ``musictag.data.datasets.Source``); its
    files must be there, ``songs`` of them are read."""
    manifest, cls = source.manifest(), type(source)
    assert source.name, "name is empty"
    unknown = [name for name in source.locations if name not in settings(cls)]
    assert not unknown, f"locations names {', '.join(unknown)}, which {cls.__name__} does not take"
    counts = {split: len(manifest.split(split)) for split in SPLITS}
    assert all(counts.values()), f"a split has no songs: {counts}"
    assert source.manifest().digest() == manifest.digest(), "the manifest is another one when it is asked for again"
    told = source.fingerprint()
    assert json.loads(json.dumps(told)) == told == source.fingerprint(), "fingerprint is not plain, or changes"
    if hasattr(source, "versions"):
        versions = source.versions(manifest)
        assert len(versions) == len(manifest), f"{len(versions)} versions of {len(manifest)} songs"
        assert all(version is None or isinstance(version, str) for version in versions), "versions are not text"
        assert versions == source.versions(manifest), "versions change without a change"
    chosen = manifest.select(np.arange(min(songs, len(manifest))))
    if hasattr(source, "expected_seconds"):
        seconds = source.expected_seconds(chosen)
        assert seconds.shape == (len(chosen),), (
            f"expected_seconds has the shape {seconds.shape} for {len(chosen)} songs"
        )
    reader = source.reader()
    pickle.dumps(reader)  # for worker processes
    for song_id, path in zip(chosen.song_ids, chosen.paths, strict=True):
        readings = (reader(song_id, path), reader(song_id, path))
        first, again = (read.samples if isinstance(read, Reading) else read for read in readings)
        assert first.dtype == np.int16, f"{song_id} is read as {first.dtype}, not int16"
        assert first.ndim == 1, f"{song_id} is read as an array of {first.ndim} dimensions, not mono"
        assert len(first), f"{song_id} has no samples"
        assert np.array_equal(first, again), f"{song_id} is another one when it is read again"
