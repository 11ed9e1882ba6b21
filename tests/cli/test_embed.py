"""`musictag embed`: files that are whole or not there, and what its documentation says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import musictag
from musictag import cli
from musictag.cli import embed as embedding
from musictag.inference import many_songs, over_patches
from musictag.inference.embedding import Embedder, layers
from musictag.inference.load import load_network
from musictag.inference.network_tagger import NetworkTagger
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import cached
from musictag.models.pretrained import musicnn as pretrained
from tests.helpers.catalogues import read_rows
from tests.helpers.embeddings import RATE, TAGS, make_network, save, write_song
from tests.helpers.experiments import ROOT, folders, run

DOCUMENTATION = ROOT / "docs" / "transfer.md"


@pytest.fixture
def song(tmp_path: Path) -> str:
    return write_song(tmp_path / "song.wav", 1.7)


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return save(tmp_path / "tagger.safetensors", make_network())


def embed(*words: str) -> int:
    return cli.main(["embed", *words])


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 1 << 24])
def test_parquet(
    patches: bool, block_bytes: int, checkpoint: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BLOCK_BYTES", block_bytes)
    files, out = [song, write_song(tmp_path / "Ünï, [b].wav", 0.3, seed=1)], tmp_path / "new" / "features.parquet"
    assert embed(*files, "--model", checkpoint, "--out", str(out), *(["--patches"] if patches else [])) == 0
    table = pq.read_table(out)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 6)
    assert table.column_names == (["path", "seconds", "embedding"] if patches else ["path", "embedding"])
    assert pq.ParquetFile(out).num_row_groups == (2 if block_bytes == 1 else 1)
    found = np.array(table["embedding"].to_pylist(), np.float32)
    embedder = Embedder(load_network(checkpoint))
    if patches:
        assert table["path"].to_pylist() == [song] * 4 + files[1:]
        assert table["seconds"].to_pylist() == [0, 0.5, 1.0, 1.2, 0]
        np.testing.assert_allclose(found, np.concatenate([embedder.patches(path)[1] for path in files]), atol=1e-5)
    else:
        assert table["path"].to_pylist() == files
        np.testing.assert_allclose(found, [embedder.song(path) for path in files], atol=1e-5)
    assert json.loads(table.schema.metadata[b"about"]) == {
        "model": checkpoint,
        "model_sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
        "layer": "penultimate",
        "sample_rate": RATE,
        "patch_seconds": 0.5,
        "musictag": musictag.__version__,
    }
    assert os.listdir(out.parent) == ["features.parquet"]


@pytest.mark.parametrize("patches", [False, True])
def test_npz(patches: bool, checkpoint: str, song: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, out = [song, write_song(tmp_path / "short.wav", 0.3, seed=1)], tmp_path / "features.npz"
    words = ["--model", checkpoint, "--out", str(out), "--layer", "backend.conv1", *(["--patches"] if patches else [])]
    assert embed(*files, *words) == 0
    songs = "2 songs, 5 patches" if patches else "2 songs"
    assert capsys.readouterr().out == f"{out}: {songs}, 8 features each (layer backend.conv1)\n"
    with np.load(out, allow_pickle=False) as arrays:
        embedder = Embedder(load_network(checkpoint), "backend.conv1")
        assert arrays["embeddings"].dtype == np.float32
        if patches:
            assert arrays["paths"].tolist() == [song] * 4 + files[1:]
            assert arrays["seconds"].tolist() == [0, 0.5, 1.0, 1.2, 0]
            np.testing.assert_allclose(arrays["embeddings"][:4], embedder.patches(song)[1], atol=1e-5)
        else:
            assert set(arrays) == {"paths", "embeddings", "about"}
            assert arrays["paths"].tolist() == files
            np.testing.assert_allclose(arrays["embeddings"], [embedder.song(path) for path in files], atol=1e-5)
        assert json.loads(str(arrays["about"]))["layer"] == "backend.conv1"


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_files_that_cannot_be_read_are_named_and_left_out(
    ending: str, checkpoint: str, song: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp3").write_text("no music")
    latin = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")  # no UTF-8
    os.rename(write_song(tmp_path / "other.wav", 0.7, seed=1), latin)
    files = [str(tmp_path / "broken.mp3"), latin, song, "nowhere.wav"]
    out = tmp_path / f"features.{ending}"
    assert embed(*files, "--model", checkpoint, "--out", str(out)) == 1
    paths = pq.read_table(out)["path"].to_pylist() if ending == "parquet" else np.load(out)["paths"].tolist()
    assert paths == [f"{tmp_path}/caf\\xe9.wav", song]
    captured = capfd.readouterr()
    assert captured.out == f"{out}: 2 songs, 6 features each (layer penultimate)\n"
    assert f"{files[0]}: cannot be read as audio" in captured.err
    assert "nowhere.wav: file not found" in captured.err


def test_a_folder_is_embedded_with_all_that_lies_below(checkpoint: str, song: str, tmp_path: Path) -> None:
    below = tmp_path / "music" / "more"
    below.mkdir(parents=True)
    other = write_song(below / "other.wav", 0.7, seed=1)
    (below / "notes.txt").write_text("no music")
    out = tmp_path / "features.npz"
    assert embed(str(tmp_path / "music"), song, other, "--model", checkpoint, "--out", str(out)) == 0
    assert np.load(out)["paths"].tolist() == [other, song]


@pytest.mark.parametrize("patches", [False, True])
def test_the_songs_of_a_data_set_from_what_is_stored(
    patches: bool, checkpoint: str, tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", f"data_dir={tmp_path / 'data'}", "--model", checkpoint]
    words += ["--patches"] if patches else []
    assert embed(*words, "--out", str(tmp_path / "one.parquet")) == 0
    with monkeypatch.context() as patched:
        patched.setattr(many_songs, "each_result", None)  # no file is read
        assert embed(*words, "--out", str(tmp_path / "two.npz")) == 0
    table, names = pq.read_table(tmp_path / "one.parquet"), read_rows(tiny_catalogue)
    assert table.column_names == ["song_id", *(["seconds"] if patches else []), "embedding"]
    rows = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    with np.load(tmp_path / "two.npz") as arrays:
        assert arrays["song_ids"].tolist() == table["song_id"].to_pylist()
        np.testing.assert_array_equal(arrays["embeddings"], rows)
    embedder = musictag.load(checkpoint).embedder()
    expected = {row["song_id"]: embedder.patches(tiny_catalogue.parent / row["path"]) for row in names}
    assert set(table["song_id"].to_pylist()) == set(expected)
    ids = np.array(table["song_id"].to_pylist())
    for song, (seconds, features) in expected.items():
        wanted = features if patches else features.mean(0, keepdims=True)
        np.testing.assert_allclose(rows[ids == song], wanted, rtol=2e-3, atol=2e-3)
        if patches:
            np.testing.assert_array_equal(table["seconds"].to_numpy()[ids == song], seconds)


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_without_a_song_there_is_no_file(
    ending: str, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"features.{ending}"
    assert embed("nowhere.wav", "--model", checkpoint, "--out", str(out)) == 1
    assert f"no file could be embedded, so {out} was not created" in capsys.readouterr().err
    assert os.listdir(out.parent) == []


def test_what_is_refused_before_any_work(
    checkpoint: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert embed(*words) == 1
        return capsys.readouterr().err

    with monkeypatch.context() as patched:
        patched.setattr("musictag.inference.load.load", None)  # not even the model is read
        assert "--out x.csv must end in .parquet or .npz" in refused(song, "--model", checkpoint, "--out", "x.csv")
        message = refused(song, "--model", checkpoint, "--out", song)
        assert "must end in" in message
        (tmp_path / "old.npz").write_text("precious")
        message = refused(song, "--model", checkpoint, "--out", str(tmp_path / "old.npz"))
        assert "old.npz already exists; choose another name with --out, or delete it" in message
        assert (tmp_path / "old.npz").read_text() == "precious"
        for words in ([], [song, "--list-layers"]):
            assert "takes the files to embed, or --list-layers" in refused(*words, "--model", checkpoint)
    monkeypatch.chdir(tmp_path)
    assert "no layer backend.conv4; similar names: " in refused(song, "--model", checkpoint, "--layer", "backend.conv4")
    assert "there is no tagger x.safetensors" in refused(song, "--model", "x.safetensors")
    assert "song.wav/x.npz cannot be written: " in refused(song, "--model", checkpoint, "--out", f"{song}/x.npz")
    assert sorted(os.listdir(tmp_path)) == ["old.npz", "song.wav", "tagger.safetensors"]
    with pytest.raises(SystemExit):
        embed(song)


def test_a_baseline_has_no_stored_patches(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = run("data=catalogue", f"data.path={tiny_catalogue}", "baseline=logistic", *folders(tmp_path))
    words = ["data=catalogue", f"data.path={tiny_catalogue}", f"data_dir={tmp_path / 'data'}"]
    assert embed(*words, "--model", str(folder), "--out", str(tmp_path / "x.npz")) == 1
    assert "this model has none: name the files themselves" in capsys.readouterr().err
    assert not (tmp_path / "x.npz").exists()


def test_the_list_of_layers(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("--list-layers", "--model", checkpoint) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["LAYER", "KIND", "SHAPE", "PER", "PATCH", "FEATURES"]
    rows = [line.split() for line in lines]
    assert rows[0] == ["penultimate", "input", "of", "backend.output", "6", "6"]
    frames = load_network(checkpoint).frontend.num_frames(8000)
    assert ["frontend", "SampleLevel", f"8×{frames}", "8"] in rows
    assert [row[0] for row in rows] == list(musictag.load(checkpoint).layers())


@pytest.mark.parametrize("block_bytes", [1, 1 << 24])  # with and without something in the file already
def test_the_default_file_and_ctrl_c(
    block_bytes: int,
    checkpoint: str,
    song: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    monkeypatch.setattr(embedding, "BLOCK_BYTES", block_bytes)
    whole = Embedder(load_network(checkpoint)).song(song)
    monkeypatch.setattr(over_patches, "BATCH_SECONDS", 0)  # no song waits for the next
    monkeypatch.setattr(many_songs, "_end", interrupted_at("other.wav"))
    assert embed("other.wav", song, "--model", checkpoint) == 130
    message = capsys.readouterr().err
    assert "embedding: stopped after 0 of 2 files" in message
    assert "musictag: interrupted: 0 of 2 files were embedded, so nothing was written" in message
    assert sorted(os.listdir()) == before
    assert embed(song, "other.wav", song, "third.wav", "--model", checkpoint) == 130
    told = capsys.readouterr()
    assert told.out == "embeddings.parquet: 1 song, 6 features each (layer penultimate)\n"
    assert "embedding: stopped after 1 of 3 files" in told.err
    assert "interrupted: 1 of 3 files are in it" in told.err
    table = pq.read_table("embeddings.parquet")
    assert table["path"].to_pylist() == [song]
    np.testing.assert_allclose(table["embedding"].to_pylist(), [whole], atol=1e-5)


def interrupted_at(name: str) -> Callable[..., None]:
    whole = many_songs._end

    def end(song: many_songs.Song, source: str, said: str | Exception) -> None:
        if source == name:
            raise KeyboardInterrupt
        whole(song, source, said)

    return end


def test_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DOCUMENTATION.read_text().split("\n## Embeddings\n")[1].split("\n## ")[0]
    (command,) = re.findall(r"^    musictag (.*)$", text, re.M)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    (shown,) = [block for language, block in blocks if not language]
    code = [block for language, block in blocks if language == "python"]
    assert len(code) == 4

    monkeypatch.setattr("musictag.models.pretrained.user_cache_path", lambda *_, **__: tmp_path / "cache")
    network = TaggingNetwork(**pretrained._ARCHITECTURES["musicnn"], tags=TAGS, patch_seconds=pretrained.PATCH_SECONDS)
    save(cached("musicnn-msd"), network)
    monkeypatch.chdir(tmp_path)
    for seed in range(10):
        folder = Path(("rock", "jazz")[seed % 2])
        folder.mkdir(exist_ok=True)
        with open(folder / f"{seed}.mp3", "wb") as file:
            noise = np.random.default_rng(seed).standard_normal(RATE // 5) * (0.01 + 0.2 * (seed % 2))
            soundfile.write(file, noise, RATE, format="MP3")
    words = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in shlex.split(command)]
    words = [word for found in words for word in found]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == shown
    assert cli.main([*words, "--out", "embeddings.npz"]) == 0
    names: dict = {}
    for block in code:
        exec(block, names)
    assert names["features"].shape == (10, 200)
    assert names["about"]["model"] == "musicnn-msd"
    for path, row in zip(names["paths"], names["features"], strict=True):
        np.testing.assert_allclose(row, NetworkTagger(network.eval()).embed(path), rtol=1e-4, atol=1e-5)
    assert names["rows"].shape == (1, 561)

    published = [line.split("|") for line in text.splitlines() if "`backend." in line or "`penultimate` |" in line]
    usable, _ = layers(network)
    for _, _, layer, numbers, _ in published:
        size = usable[re.findall(r"`([a-z_.0-9]{4,})`", layer)[0]].size
        assert int(numbers) == (size // 2 if "[" in layer else size)
    assert len(published) == 6
