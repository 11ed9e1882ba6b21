"""Decode once: the same bytes for any workers and any number of interruptions; a bad song costs only that song."""

from __future__ import annotations

import io
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from filelock import FileLock

from musictag.common.errors import MusictagError
from musictag.data.datasets.audio_files import AudioFiles
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation import prepare as preparation
from musictag.data.preparation.prepare import Prepared, prepare, song_versions
from musictag.data.store.folder import prepared_folder
from tests.helpers.catalogues import read_rows, synthetic_song, write_catalogue, write_table
from tests.helpers.marks import first_fast
from tests.helpers.preparations import (
    CountingCatalogue,
    all_samples,
    children,
    contents,
    damaged_shards,
    finished_blocks,
    start,
    wait_until,
)


@pytest.fixture
def reference(tiny_catalogue: Path, tmp_path: Path) -> dict[str, str]:
    """The result of an undisturbed preparation of the tiny catalogue in one process."""
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "reference", songs_per_shard=2)
    found = contents(tmp_path / "reference")
    assert len(found) == 12 + 4  # shards; index, problems, duplicates, about
    return found


def test_one_worker_or_two_leave_the_same_bytes(tiny_catalogue: Path, tmp_path: Path, reference: dict) -> None:
    environment = dict(os.environ)
    prepared = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", workers=2, songs_per_shard=2)
    assert contents(tmp_path / "data") == reference
    assert len(prepared.manifest) == len(prepared.store) == 24
    assert prepared.problems == []
    assert dict(os.environ) == environment


def kill_and_resume(catalogue: Path, data_dir: Path, workers: int, blocks: int, reference: dict) -> None:
    process = start(catalogue, data_dir, workers, 0.05)
    wait_until(lambda: finished_blocks(data_dir) >= blocks)
    pids = children(process)
    process.kill()
    process.wait()
    # no worker outlives its parent
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60)
    kept = finished_blocks(data_dir)
    assert blocks <= kept < 12
    source = CountingCatalogue(catalogue)
    prepare(source, data_dir, songs_per_shard=2)
    assert len(source.read) == 24 - 2 * kept
    assert contents(data_dir) == reference


def test_a_killed_preparation_continues_where_it_was(tiny_catalogue: Path, tmp_path: Path, reference: dict) -> None:
    kill_and_resume(tiny_catalogue, tmp_path / "data", 2, 3, reference)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("blocks", range(0, 11, 2))
def test_killed_anywhere(tiny_catalogue: Path, tmp_path: Path, reference: dict, workers: int, blocks: int) -> None:
    kill_and_resume(tiny_catalogue, tmp_path / "data", workers, blocks, reference)


@pytest.mark.parametrize("name", first_fast(["_write_shard", "write_index", "atomic_write", "unlink"], 2))
def test_a_kill_between_any_two_steps_costs_nothing(
    tiny_catalogue: Path, tmp_path: Path, reference: dict, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Stop before each step that changes the folder in turn, and continue from there each time."""
    from musictag.data.preparation import blocks

    class Killed(BaseException):
        pass

    owner = Path if name == "unlink" else blocks
    original = getattr(owner, name)
    for allowed in range(2, 200, 3):
        steps = 0

        def stopping(*arguments: object, limit: int = allowed, **options: object) -> object:
            nonlocal steps
            steps += 1
            if steps > limit:
                raise Killed
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopping)
            try:
                prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=2)
                break
            except Killed:
                continue
    assert allowed > 2, "never stopped"
    assert contents(tmp_path / "data") == reference


def test_interrupted_by_hand_it_keeps_finished_blocks(tiny_catalogue: Path, tmp_path: Path, reference: dict) -> None:
    process = start(tiny_catalogue, tmp_path / "data", 2, 0.3)  # slow enough to be interrupted on a busy machine
    wait_until(lambda: finished_blocks(tmp_path / "data") >= 2)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "finished blocks are kept" in output
    assert not list((tmp_path / "data").rglob(".*.part"))
    kept = finished_blocks(tmp_path / "data")
    assert 2 <= kept < 12
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=2)
    assert contents(tmp_path / "data") == reference


@pytest.mark.parametrize("workers", first_fast([2, 1]))
def test_a_full_disk_stops_the_work_and_nothing_half_written_counts(
    tiny_catalogue: Path, tmp_path: Path, reference: dict, workers: int
) -> None:
    # the system refuses files larger than this, in the middle of writing them: most shards are
    process = start(tiny_catalogue, tmp_path / "data", workers, 0, 130_000)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no room to write" in output
    assert str(tmp_path / "data") in output
    assert "Traceback" not in output
    assert not list((tmp_path / "data").rglob(".*.part"))
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=2)
    assert contents(tmp_path / "data") == reference


def test_a_disk_too_small_is_noticed_before_starting(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(tiny_catalogue)
    write_table(tiny_catalogue, [row | {"duration": 600 + 60 * (row["song_id"] == "train-02")} for row in rows])
    source = CountingCatalogue(tiny_catalogue)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e6))
    with pytest.raises(MusictagError, match=r"24 songs need about 46\d\.\d MB in .* 1\.0 MB are free") as caught:
        prepare(source, tmp_path / "data")
    assert " The longest of those looked at: audio/train-02.wav (11 min), audio/train-" in str(caught.value)
    assert source.read == []


@pytest.mark.parametrize("odd", [1e12, 12.1 * 3600])
def test_one_odd_length_does_not_stop_the_work(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: float
) -> None:
    rows = read_rows(tiny_catalogue)
    write_table(tiny_catalogue, [row | {"duration": odd if row["song_id"] == "test-01" else 100} for row in rows])
    assert len(prepare(CatalogueFile(tiny_catalogue), tmp_path / "data").manifest) == 24
    assert "24 songs to prepare: about 7" in capsys.readouterr().err


def test_odd_lengths_in_headers_do_not_stop_the_work(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_catalogue.parent / "audio" / "train-00.wav"
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = (0x7F000050).to_bytes(4, "little")  # as a stream declares it: 18 hours
    path.write_bytes(data)
    assert len(prepare(CatalogueFile(tiny_catalogue), tmp_path / "data").manifest) == 24
    assert "24 songs to prepare: about 2." in capsys.readouterr().err


def test_the_space_needed_is_reported_before_starting(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    megabytes = sum(len(source_samples) for source_samples in all_samples(tiny_catalogue)) * 2 / 1e6
    (tiny_catalogue.parent / "audio" / "train-03.wav").write_bytes(b"no audio")  # a header without information

    def told(data_dir: Path, **options: object) -> float:
        prepare(CatalogueFile(tiny_catalogue, **options), data_dir)
        told = capsys.readouterr().err
        found = re.search(r"\n24 songs to prepare: about ([\d.]+) MB in (.*), where [\d,.]+ GB are free\n", told)
        assert found, told
        assert found[2].startswith(str(data_dir))
        return float(found[1])

    # the catalogue knows no durations: they come from the files' headers
    assert told(tmp_path / "headers") == pytest.approx(megabytes, rel=0.1)
    assert told(tmp_path / "seconds", max_seconds=0.5) == pytest.approx(24 * 0.5 * 32000 / 1e6, abs=0.06)
    write_table(tiny_catalogue, [row | {"duration": 100} for row in read_rows(tiny_catalogue)])
    assert told(tmp_path / "durations") == pytest.approx(24 * 100 * 32000 / 1e6, abs=0.06)


def test_the_space_needed_is_known_after_the_first_block_at_the_latest(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(AudioFiles, "expected_seconds")
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "known", songs_per_shard=2)
    assert "\n22 songs to prepare: about" in capsys.readouterr().err
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e5))
    with pytest.raises(MusictagError, match=r"22 songs need about .* MB in .* where 0\.1 MB are free"):
        prepare(CatalogueFile(tiny_catalogue), tmp_path / "full", songs_per_shard=2)
    assert finished_blocks(tmp_path / "full") == 1


def test_a_damaged_part_of_the_index_costs_its_songs_and_not_the_folder(tiny_catalogue: Path, tmp_path: Path) -> None:
    source = CatalogueFile(tiny_catalogue)
    folder = prepare(source, tmp_path / "data").store.folder
    part, whole = folder / "shards" / "0123.parquet", (folder / "index.parquet").read_bytes()
    for content, why in ((whole[:-50], "is damaged"), (foreign_table(), "is not an index of this version")):
        part.write_bytes(content)
        with pytest.raises(MusictagError, match=rf"0123\.parquet {why}: delete it and rerun the command"):
            prepare(source, tmp_path / "data")
    part.unlink()
    (folder / "index.parquet").write_bytes(whole[:-50])
    with pytest.raises(MusictagError, match=r"index\.parquet is damaged: delete its folder and prepare the data again"):
        prepare(source, tmp_path / "data")


def foreign_table() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"song_id": ["a"]}), file)
    return file.getvalue()


def test_an_unwritable_folder_is_named(tiny_catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(MusictagError, match=r"cannot write to .*data_dir="):
        prepare(CatalogueFile(tiny_catalogue), tmp_path / "data")


def test_of_two_processes_one_works_and_the_other_waits(tiny_catalogue: Path, tmp_path: Path, reference: dict) -> None:
    folder = prepared_folder(CatalogueFile(tiny_catalogue), tmp_path / "data")
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        first, second = (start(tiny_catalogue, tmp_path / "data", 1, 0.01) for _ in range(2))
        for process in (first, second):
            assert any("another process is preparing" in line for line in process.stderr)
    outputs = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    # one of them read the songs, the other found them
    assert sorted("24 songs in" in output for output in outputs) == [False, True]
    assert contents(tmp_path / "data") == reference


def test_songs_added_later_are_the_only_ones_read(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_catalogue)

    def prepare_rows(some: list[dict]) -> tuple[Prepared, list[str]]:
        write_table(tiny_catalogue, some)
        source = CountingCatalogue(tiny_catalogue)
        return prepare(source, tmp_path / "data", songs_per_shard=4), source.read

    first, read = prepare_rows(rows[5:20])
    assert len(read) == 15
    before = contents(first.store.folder / "shards")
    second, read = prepare_rows(rows)
    assert second.store.folder == first.store.folder
    assert read == [row["song_id"] for row in rows[:5] + rows[20:]]
    after = contents(first.store.folder / "shards")
    assert before.items() < after.items()
    assert len(second.manifest) == len(second.store) == 24
    write_catalogue(tiny_catalogue.parent / "more", seed=1)
    added = [row | {"song_id": f"more-{n}", "path": f"more/{row['path']}"} for n, row in enumerate(rows[7:10])]
    _, read = prepare_rows(rows + added)
    assert read == ["more-0", "more-1", "more-2"]
    third, read = prepare_rows(rows[::2])
    assert read == []
    assert third.manifest.song_ids.tolist() == [row["song_id"] for row in rows[::2]]
    for before, after in zip(*(p.store.rows_of(third.manifest.song_ids) for p in (second, third)), strict=True):
        np.testing.assert_array_equal(second.store.read(before), third.store.read(after))


def test_a_changed_file_is_read_again(tiny_catalogue: Path, tmp_path: Path) -> None:
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=4)
    path = tiny_catalogue.parent / "audio" / "train-03.wav"
    audio = synthetic_song(2.5, True, False, 0.5, seed=99)
    soundfile.write(path, audio, 16000)
    source = CountingCatalogue(tiny_catalogue)
    store = prepare(source, tmp_path / "data", songs_per_shard=4).store
    assert source.read == ["train-03"]
    (row,) = store.rows_of(np.array(["train-03"]))
    np.testing.assert_array_equal(store.read(row), source.reader()("train-03", "audio/train-03.wav"))
    assert len(store) == 24
    assert damaged_shards(store) == []


def test_prepared_songs_outlive_their_files(tiny_catalogue: Path, tmp_path: Path) -> None:
    source = CatalogueFile(tiny_catalogue)
    before = prepare(source, tmp_path / "data")
    told = song_versions(source, source.manifest(), before.store.folder)
    for file in (tiny_catalogue.parent / "audio").iterdir():
        file.unlink()
    again = CountingCatalogue(tiny_catalogue)
    after = prepare(again, tmp_path / "data", max_bad_fraction=0)
    assert again.read == []
    assert len(after.manifest) == 24
    assert song_versions(again, again.manifest(), after.store.folder) == told


def test_a_finished_folder_opens_without_reading_or_writing(tiny_catalogue: Path, tmp_path: Path) -> None:
    first = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.joinpath("data").rglob("*")}
    source = CountingCatalogue(tiny_catalogue)
    folder = first.store.folder
    folder.chmod(0o500)
    try:
        again = prepare(source, tmp_path / "data")
    finally:
        folder.chmod(0o700)
    assert source.read == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.joinpath("data").rglob("*")} == before
    assert again.manifest.digest() == first.manifest.digest()


def test_progress_is_printed_in_lines_without_a_terminal(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musictag.common.progress._LINE_EVERY_SECONDS", 0.0)
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "data")
    lines = capsys.readouterr().err.splitlines()
    assert any("12 of 24 songs" in line and "per second" in line and "left" in line for line in lines)
    assert "24 songs in" in lines[-1]


def test_another_rate_or_layout_is_another_folder(tiny_catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CatalogueFile(tiny_catalogue)
    folder = prepared_folder(source, "data")
    assert folder.name.startswith("catalogue-")
    assert prepared_folder(source, "data", sample_rate=8000) != folder
    slow = CatalogueFile(tiny_catalogue, sample_rate=8000)
    assert prepared_folder(slow, "data") == prepared_folder(slow, "data", sample_rate=8000)
    assert prepared_folder(slow, "data") not in (folder, prepared_folder(slow, "data", sample_rate=16000))
    monkeypatch.setattr("musictag.data.store.folder.STORE_VERSION", 3)
    assert prepared_folder(source, "data") != folder
