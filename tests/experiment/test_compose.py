"""`musictag prepare`: the same words as for training, the same audio as for training, and damage mended."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from musictag.cli.prepare import prepare
from musictag.common.errors import MusictagError, SongError
from musictag.data.audio import decode
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.store.store import Store
from musictag.experiment import compose as preparing
from musictag.experiment import run as experiment
from musictag.experiment.compose import compose
from tests.helpers.catalogues import read_rows, write_table
from tests.helpers.experiments import TINY, compose_config, folders


@pytest.fixture
def overrides(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return [*TINY, *folders(tmp_path), "data=catalogue", f"data.path={tiny_catalogue}"]


def only_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "data").iterdir()
    return folder


def test_the_configuration_is_that_of_training(overrides: list[str]) -> None:
    assert compose(overrides) == compose_config(*overrides)
    names = {
        "frontend": "waveform",
        "backend": "residual",
        "model": None,
        "probe": None,
        "paper": None,
        "baseline": None,
    }
    assert compose(["frontend=waveform"])["names"] == names


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data=catalogue", r"data\.path is needed; use data\.path=\.\.\."),
        ("data=nonsense", r"(?s)nonsense.*catalogue.*songbook"),
        ("data.nonsense=1", r"data has no key nonsense; it has .*num_songs"),
        ("data=songbook,manifest", "sweep"),
        ("seed=[1", "no viable alternative"),
        ("seed=${nonsense}", "'nonsense' not found full_key: seed"),
    ],
)
def test_overrides_that_cannot_be_composed_say_why(override: str, message: str) -> None:
    with pytest.raises(MusictagError, match=message) as caught:
        compose([override])
    assert "Traceback" not in str(caught.value)


def test_without_the_configuration_it_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "CONF", tmp_path / "conf")
    with pytest.raises(MusictagError, match="in a clone of the repository"):
        compose([])


def test_what_is_prepared_is_what_training_finds(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(overrides)
    lines = capsys.readouterr().out.splitlines()
    folder = only_folder(tmp_path)
    store = Store(folder)
    minutes = store.num_samples.sum() / 16000 / 60
    megabytes = sum(path.stat().st_size for path in (folder / "shards").glob("*.npy")) / 1e6
    assert lines == [f"24 songs, {minutes:.1f} minutes, in {folder} ({megabytes:.1f} MB on disk)"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    experiment.run(compose_config(*overrides, "trainer.max_epochs=1"))
    assert only_folder(tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_subset_of_the_training_songs_is_prepared_alone(overrides: list[str], tmp_path: Path) -> None:
    prepare([*overrides, "data.train_songs=4"])
    assert len(Store(only_folder(tmp_path))) == 4 + 5 + 7


def test_unusable_songs_are_counted_and_their_list_is_named(
    overrides: list[str], tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_catalogue.parent / "audio" / "train-00.wav").write_bytes(b"no audio")
    prepare(overrides)
    problems = only_folder(tmp_path) / "problems.csv"
    assert f"1 songs cannot be used; for details see {problems}" in capsys.readouterr().out
    assert [row["song_id"] for row in read_rows(problems)] == ["train-00"]
    with pytest.raises(MusictagError, match=r"max_bad_fraction=0\.01"):
        prepare([*overrides, "data.max_bad_fraction=0.01"])


def test_unknown_keys_are_refused(overrides: list[str]) -> None:
    with pytest.raises(MusictagError, match="there is no key nonsense"):
        prepare([*overrides, "+nonsense=1"])


def test_damaged_shards_are_mended(
    overrides: list[str],
    tiny_catalogue: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare([*overrides], verify=True)
    output = capsys.readouterr()
    assert "every shard is intact" in output.out
    assert "verifying: 3 shards in" in output.err
    path, *_ = (only_folder(tmp_path) / "shards").iterdir()
    whole = path.read_bytes()
    read: list[str] = []
    reader = CatalogueFile.reader

    def counting(source: CatalogueFile):
        def count(song_id: str, path: str):
            read.append(song_id)
            return reader(source)(song_id, path)

        return count

    monkeypatch.setattr(CatalogueFile, "reader", counting)
    flipped = bytearray(whole)
    flipped[5000] ^= 1
    for damaged in (bytes(flipped), b"\0" * 128 + whole[128:]):
        read.clear()
        path.write_bytes(damaged)
        prepare(overrides)  # only reading it whole finds out
        assert path.read_bytes() == damaged
        assert read == []
        capsys.readouterr()
        prepare(overrides, verify=True)
        output = capsys.readouterr()
        assert f"1 damaged shards were deleted; preparing their songs again:\n  {path}" in output.err
        assert "every shard is intact" in output.out
        assert path.read_bytes() == whole
        assert len(read) == 8


def test_a_damaged_shard_whose_files_are_gone_is_kept(
    overrides: list[str], tiny_catalogue: Path, tmp_path: Path
) -> None:
    prepare([*overrides])
    shards = sorted((only_folder(tmp_path) / "shards").iterdir())
    for path in shards[:2]:
        path.write_bytes(path.read_bytes()[:-2] + b"xy")
    damaged = {path: path.read_bytes() for path in shards[:2]}
    index = pq.read_table(only_folder(tmp_path) / "index.parquet").to_pylist()
    gone = next(row["path"] for row in index if row["shard"] == shards[0].stem)
    away = (tiny_catalogue.parent / gone).rename(tmp_path / "away.wav")
    with pytest.raises(MusictagError, match=f"1 damaged shards were kept, because the files of 1 .* such as {gone}"):
        prepare(overrides, verify=True)
    assert shards[0].read_bytes() == damaged[shards[0]]
    assert shards[1].read_bytes() != damaged[shards[1]]
    away.rename(tiny_catalogue.parent / gone)
    prepare(overrides, verify=True)
    assert shards[0].read_bytes() != damaged[shards[0]]


def test_verifying_tries_refused_songs_again_and_removes_old_shards(
    overrides: list[str], tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise SongError("cannot be read as audio: there is no decoder for it")

    with monkeypatch.context() as context:
        context.setattr(decode, "_convert", refuse)
        prepare([*overrides, "data.max_bad_fraction=1"])
    prepare([*overrides, "data.max_bad_fraction=1"])
    assert not list((only_folder(tmp_path) / "shards").iterdir())
    prepare(overrides, verify=True)
    before = set((only_folder(tmp_path) / "shards").iterdir())
    for row in read_rows(tiny_catalogue):
        os.utime(tiny_catalogue.parent / row["path"], (1, 1))
    prepare(overrides)
    assert before < set((only_folder(tmp_path) / "shards").iterdir())
    prepare(overrides, verify=True)
    assert not before & set((only_folder(tmp_path) / "shards").iterdir())


def test_damage_to_songs_that_nobody_asks_for_is_nobodys_business(
    tiny_catalogue: Path, overrides: list[str], tmp_path: Path
) -> None:
    rows = read_rows(tiny_catalogue)
    write_table(tiny_catalogue, rows[:-1])
    prepare(overrides)
    before = set((only_folder(tmp_path) / "shards").iterdir())
    write_table(tiny_catalogue, rows)
    prepare(overrides)
    (added,) = set((only_folder(tmp_path) / "shards").iterdir()) - before
    added.write_bytes(added.read_bytes()[:-2] + b"xy")
    write_table(tiny_catalogue, rows[:-1])
    prepare(overrides, verify=True)
    # once it is asked for again, it is
    write_table(tiny_catalogue, rows)
    prepare(overrides, verify=True)


def test_a_disk_that_damages_what_is_written_is_reported(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musictag.data.preparation import blocks

    header = blocks.shard_header

    def other_header(num_samples: int) -> bytes:
        return header(num_samples).replace(b"<i2", b"<u2")

    monkeypatch.setattr(blocks, "shard_header", other_header)
    with pytest.raises(MusictagError, match=r"3 shards in .* although they were just written"):
        prepare(overrides, verify=True)
