"""A folder per genre, as in GTZAN: genres/blues/blues.00000.wav. Deeper: genre/artist/album/song."""

from __future__ import annotations

from pathlib import Path, PurePath

from musictag.data.catalogue.making.labels import Labels, Song, split_name


def read_folders(folder: Path, paths: list[str]) -> Labels:
    """The songs at ``paths`` (absolute, below ``folder``), each tagged with the name of its folder.

    A folder that contains everything is skipped (Data/genres_original); folders train, validation and test are splits.
    """
    below = {path: PurePath(path).relative_to(folder).parts for path in paths}
    depth = _shared(list(below.values()))
    base = Path(folder, *next(iter(below.values()))[:depth]) if below else folder
    firsts = {parts[depth] for parts in below.values() if len(parts) > depth + 1}
    splits = {name: split_name(name) for name in firsts}
    is_split = len(set(splits.values())) > 1 and None not in splits.values()
    at = depth + is_split
    labels = Labels(f"a folder per genre: the folders in {base}", [], one_cell_one_tag=True)
    if is_split:
        labels.about = f"a folder per genre: the folders in {', '.join(sorted(firsts))} of {base}, which are the splits"
    loose = []
    for path, parts in below.items():
        if len(parts) < at + 2:
            loose.append(path)
            continue
        artist, album = (*parts[at + 1 : -1], "", "")[:2]
        split = (splits[parts[depth]] or "") if is_split else ""
        labels.songs.append(Song(path, [parts[at]], artist=artist, album=album, split=split))
    labels.drop("songs outside of any genre folder", loose)
    if any(song.artist for song in labels.songs):
        labels.notes.append("the folders inside these are read as artists")
    return labels


def _shared(all_parts: list[tuple[str, ...]]) -> int:
    """The number of folders that all songs share, leaving one that names the genre."""
    depth = 0
    while all_parts and all(len(parts) > depth + 2 for parts in all_parts):
        if len({parts[depth] for parts in all_parts}) > 1:
            break
        depth += 1
    return depth
