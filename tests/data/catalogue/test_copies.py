"""The same recording under several names: found by bytes and by samples, reported, and kept in one split."""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag import cli
from musictag.cli.prepare import summary
from musictag.data.catalogue import copies
from musictag.data.catalogue.copies import groups_of, same_files
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from musictag.data.store.folder import prepared_folder
from musictag.data.store.store import read_index
from tests.helpers.catalogues import read_rows, ready, song_data, synthetic_song, write_table

SPLITS = ("train", "validation", "test")


def groups(root: Path, *names: str | None, among: list[bool] | None = None) -> list[list[int]]:
    firsts = same_files(root, names, None if among is None else np.array(among))
    return [rows.tolist() for rows in groups_of(firsts)]


def write(root: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        (root / name).write_bytes(content)


# by bytes


def test_files_with_the_same_bytes_are_found_and_others_are_not(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(100_000)
    changed = {at: noise[:at] + bytes([noise[at] ^ 1]) + noise[at + 1 :] for at in (0, 50_000, 99_999)}
    write(tmp_path, a=noise, b=noise[:-1], c=noise, d=b"x", e=b"x", f=b"y", g=b"", h=b"")
    write(tmp_path, begins=changed[0], within=changed[50_000], ends=changed[99_999])
    (tmp_path / "folder").mkdir()
    os.symlink(tmp_path / "a", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    assert groups(tmp_path, "begins", "a", "within", "b", "c", "ends", "link") == [[1, 4, 6]]
    assert groups(tmp_path, "e", "f", "d", "g", "h", "folder", "missing", "pipe", None, None, "x\0y") == [[0, 2]]
    assert groups(tmp_path, "a", "d", "c", "e", "a") == [[0, 2, 4], [1, 3]]
    assert groups(tmp_path) == groups(tmp_path, "a") == groups(tmp_path, "a", "b") == []


def test_only_copies_of_relevant_files_are_searched(tmp_path: Path) -> None:
    write(tmp_path, a=b"one", b=b"one", c=b"three", d=b"three")
    assert groups(tmp_path, "a", "b", "c", "d", among=[False, False, False, True]) == [[2, 3]]
    assert groups(tmp_path, "a", "b", "c", "d", among=[False] * 4) == []


def test_files_of_unique_size_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, **{f"f{size}": bytes(size) for size in range(1, 40)})
    write(tmp_path, big=bytes(40_000), other=bytes(20_000) + b"x" * 20_000, copy=bytes(40_000))
    read: list[tuple[str, str]] = []
    for name in ("_sample", "_whole"):
        original = getattr(copies, name)

        def noting(path: str, what: str = name, original=original) -> int | None:
            read.append((what, Path(path).name))
            return original(path)

        monkeypatch.setattr(copies, name, noting)
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert groups(tmp_path, *names) == [[names.index("big"), names.index("copy")]]
    # files that differ in the middle are not read whole
    assert sorted(read) == [("_sample", "big"), ("_sample", "copy"), ("_sample", "other"),
                            ("_whole", "big"), ("_whole", "copy")]  # fmt: skip


def test_progress_is_shown_for_many_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_PROGRESS_FROM_FILES", 150)
    names = [f"f{number}" for number in range(200)]
    write(tmp_path, **{name: b"%03d" % (number // 2) for number, name in enumerate(names)})
    assert groups(tmp_path, *names) == [[number, number + 1] for number in range(0, 200, 2)]
    said = capsys.readouterr().err
    assert "comparing excerpts of files of equal size: 200 files in" in said
    assert "comparing whole files: 200 files in" in said


# `musictag data check`


def catalogue(folder: Path, *songs: tuple[str, str, bytes], split: bool = True) -> Path:
    """A table of (file, split, content); every second song has a tag."""
    rows = []
    for number, (name, of, content) in enumerate(songs):
        (folder / name).write_bytes(content)
        rows.append({"path": name, **({"split": of} if split else {}), "high": number % 2})
    return write_table(folder / "c.csv", rows)


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = cli.main(["data", "check", str(path)])
    return status, capsys.readouterr().out


def test_check_reports_copies_across_splits_with_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    songs = [(f"{split}-{number}.wav", split, f"{split} {number}".encode()) for split in SPLITS for number in range(6)]
    status, said = shown(catalogue(tmp_path, *songs), capsys)
    assert (status, "identical" in said, "cop" in said.replace(str(tmp_path), "")) == (0, False, False)
    songs[2] = ("train-2.wav", "train", b"twin")
    songs[9] = ("validation-3.wav", "validation", b"twin")
    songs[4] = ("train-4.wav", "train", b"many")
    songs[5] = ("train-5.wav", "train", b"many")
    for number in (12, 13, 14):
        songs[number] = (f"test-{number}.wav", "test", b"many")
    songs[0], songs[1] = ("train-0.wav", "train", b"quiet"), ("train-1.wav", "train", b"quiet")
    status, said = shown(catalogue(tmp_path, *songs), capsys)
    assert status == 1
    lines = said.splitlines()
    at = lines.index("error: identical files in more than one split: test scores would be too high (2)")
    assert [line.strip() for line in lines[at + 1 : at + 3]] == [
        "row 3 (train) 'train-2.wav' = row 10 (validation) 'validation-3.wav'",
        "row 5 (train) 'train-4.wav' = row 6 (train) 'train-5.wav' = row 13 (test) 'test-12.wav' = row 14 (test) "
        "'test-13.wav' = 1 more",
    ]
    assert "1 file is a copy of another in the same split, such as rows 1 and 2" in lines


def test_check_without_a_split_counts_copies_and_leaves_repeated_paths_to_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = [(f"{number}.wav", "", b"%d" % (number % 5)) for number in range(12)]
    path = catalogue(tmp_path, *songs, split=False)
    rows = read_rows(path)
    path = write_table(path, [*rows, {"path": "./0.wav", "high": 1}])
    _, said = shown(path, capsys)
    assert "identical files" not in said
    assert (
        "7 files are copies of another, such as rows 1 and 6; a split that musictag makes keeps them together" in said
    )
    assert "error: file already named above (1)" in said


# by samples, once prepared


def twins(folder: Path, seconds: float = 1.0) -> Path:
    """Sixteen songs, some of them the same recording under another name, in another format, or with lossy encoding.

    Copies: 0 (train) = 5 (train, other bytes) = 9 (validation, FLAC); 2 (train) = 13 (test, the same file).
    """
    (folder / "audio").mkdir(parents=True)
    rows = []
    for number in range(16):
        split, recording = SPLITS[(number >= 8) + (number >= 12)], {5: 0, 9: 0, 13: 2}.get(number, number)
        audio = synthetic_song(seconds, recording % 2 == 0, recording % 3 == 0, 0.5, recording)
        audio = (audio * 32767).astype(np.int16)  # so that every format holds the same samples
        name = f"{number}.{'flac' if number == 9 else 'wav'}"
        with soundfile.SoundFile(folder / "audio" / name, "w", 16000, 1, "PCM_16") as file:
            if number == 5:
                file.title = "The same with another name"
            file.write(audio)
        rows.append({"song_id": f"s{number}", "path": f"audio/{name}", "split": split,
                     "high": int(number % 2 == 0), "noisy": int(number % 3 == 0)})  # fmt: skip
    # a lossy encoding is another recording
    soundfile.write(folder / "audio/15.mp3", synthetic_song(seconds, False, True, 0.5, 3), 16000)
    rows[15]["path"] = "audio/15.mp3"
    return write_table(folder / "catalogue.csv", rows)


ACROSS = "2 recordings are in more than one split, the same samples in each: s0 (train) = s5 (train) = s9 (validation); s2 (train) = s13 (test)"  # noqa: E501


def test_songs_with_the_same_samples_are_reported_and_listed(tmp_path: Path) -> None:
    path = twins(tmp_path)
    source = CatalogueFile(path)
    prepared = prepare(source, tmp_path / "data", songs_per_shard=3)
    assert len(prepared.manifest) == 16
    assert [rows.tolist() for rows in groups_of(prepared.firsts)] == [[0, 5, 9], [2, 13]]
    duplicates = prepared.store.folder / "duplicates.csv"
    with duplicates.open(newline="") as file:
        listed = sorted(csv.DictReader(file), key=lambda row: int(row["row"]))
    assert [(row["song_id"], row["path"], row["split"], row["row"]) for row in listed] == [
        ("s0", "audio/0.wav", "train", "1"), ("s2", "audio/2.wav", "train", "3"), ("s5", "audio/5.wav", "train", "6"),
        ("s9", "audio/9.flac", "validation", "10"), ("s13", "audio/13.wav", "test", "14"),
    ]  # fmt: skip
    numbers = {row["song_id"]: row["recording"] for row in listed}
    assert numbers["s0"] == numbers["s5"] == numbers["s9"] != numbers["s2"] == numbers["s13"]
    *_, last = summary(prepared).splitlines()
    assert last == f"{ACROSS}; for the full list see {duplicates}"


def test_copies_within_a_split_are_counted_alone(tmp_path: Path) -> None:
    path = twins(tmp_path)
    rows = read_rows(path)
    rows[9]["split"] = rows[13]["split"] = "train"
    rows[1]["split"], rows[3]["split"] = "validation", "test"
    prepared = prepare(CatalogueFile(write_table(path, rows)), tmp_path / "data")
    *_, last = summary(prepared).splitlines()
    assert last.startswith("2 recordings are duplicated within one split; for the full list see ")


def test_training_warns_once_of_copies_in_several_splits(tmp_path: Path) -> None:
    data = song_data(twins(tmp_path))
    data.prepare_data()
    with pytest.warns(UserWarning, match="more than one split") as caught:
        data.setup("fit")
    (message,) = [str(warning.message) for warning in caught if "recordings" in str(warning.message)]
    duplicates = prepared_folder(data.source, tmp_path / "data") / "duplicates.csv"
    assert data.overlap == {"copies": 2, "artists": None}
    assert message == f"{ACROSS}. Scores will be higher than on other music; for the full list see {duplicates}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")


def test_a_subset_of_the_songs_only_reports_these(tmp_path: Path) -> None:
    path = twins(tmp_path)
    ready(path)  # all are prepared
    data = song_data(path, train_songs=5)
    prepared = data.prepare_data()
    used = set(prepared.manifest.song_ids)
    assert len(used) == 13
    expected = [{"s0", "s5", "s9"} & used, {"s2", "s13"} & used]
    found = [set(prepared.manifest.song_ids[rows]) for rows in groups_of(prepared.firsts)]
    assert sorted(map(sorted, found)) == sorted(sorted(group) for group in expected if len(group) > 1)
    # the list is that of all songs that are prepared
    with (prepared.store.folder / "duplicates.csv").open(newline="") as file:
        listed = {row["song_id"]: (row["split"], row["row"]) for row in csv.DictReader(file)}
    assert listed == {"s0": ("train", "1"), "s2": ("train", "3"), "s5": ("train", "6"), "s9": ("validation", "10"),
                      "s13": ("test", "14")}  # fmt: skip


def test_the_list_follows_the_split_and_stays_where_nothing_changed(tmp_path: Path) -> None:
    path = twins(tmp_path)
    duplicates = prepare(CatalogueFile(path), tmp_path / "data").store.folder / "duplicates.csv"
    before = duplicates.stat().st_mtime_ns
    prepare(CatalogueFile(path), tmp_path / "data")
    assert duplicates.stat().st_mtime_ns == before
    rows = read_rows(path)
    rows[9]["split"] = "test"
    prepare(CatalogueFile(write_table(path, rows)), tmp_path / "data")
    assert "s9,audio/9.flac,test,10" in duplicates.read_text()


def test_unusable_songs_are_not_copies(tmp_path: Path) -> None:
    path = twins(tmp_path)
    for number in (1, 3, 4):
        (tmp_path / f"audio/{number}.wav").write_bytes(b"no audio")
    prepared = prepare(CatalogueFile(path), tmp_path / "data", max_bad_fraction=0.5)
    ids = prepared.manifest.song_ids
    assert [ids[rows].tolist() for rows in groups_of(prepared.firsts)] == [["s0", "s5", "s9"], ["s2", "s13"]]
    digests = read_index(prepared.store.folder)["digest"]
    assert (digests.null_count, len(digests.drop_null().unique())) == (3, 10)
