"""`musictag data describe`: the numbers match an independent count, and the plots are written."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest

from musictag import cli
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.describe.plots import plot_prevalence, plot_together
from musictag.data.describe.statistics import Description, describe, song_seconds
from musictag.data.manifest import SPLITS, Manifest, Tag
from musictag.data.preparation.prepare import prepare
from tests.helpers.catalogues import read_rows, write_table


def random_manifest(songs: int, classes: int, measures: int = 0, seed: int = 0) -> Manifest:
    """Tags from frequent to rare, some unknown; tag 1 follows tag 0."""
    rng = np.random.default_rng(seed)
    columns = {
        "song_id": [f"s{i}" for i in range(songs)],
        "path": [f"{i}.wav" for i in range(songs)],
        "split": rng.choice(SPLITS, songs, p=[0.6, 0.2, 0.2]),
        "group": [f"g{number}" if number else None for number in rng.integers(0, songs // 3, songs)],
        "duration": rng.uniform(10, 300, songs),
    }
    for number, prevalence in enumerate(np.geomspace(0.5, 0.02, classes)):
        values = (rng.random(songs) < prevalence).astype(float)
        if number == 1:
            values = np.where(rng.random(songs) < 0.8, columns["tag 0"], values)
        columns[f"tag {number}"] = values
    for number in range(classes):
        columns[f"tag {number}"][rng.random(songs) < 0.1] = np.nan
    columns |= {f"measure {number}": rng.uniform(0, 1, songs) for number in range(measures)}
    tags = [Tag(f"tag {number}") for number in range(classes)]
    tags += [Tag(f"measure {number}", "regression") for number in range(measures)]
    return Manifest(pa.table(columns), tags, "random")


def described(manifest: Manifest) -> Description:
    return describe(manifest, manifest.values("duration"))


def test_the_numbers_are_those_of_an_independent_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musictag.data.describe.statistics._ROWS_AT_ONCE", 70)
    manifest = random_manifest(300, 6, 2)
    found = described(manifest)
    rows = manifest.table.to_pylist()
    for part in (*SPLITS, "all"):
        songs = [row for row in rows if part in (row["split"], "all")]
        assert found.songs[part] == len(songs)
        assert found.hours[part] == pytest.approx(sum(row["duration"] for row in songs) / 3600)
        assert found.groups[part] == len({row["group"] for row in songs} - {None})
        for tag in found.tags:
            known = [row[tag.name] for row in songs if row[tag.name] is not None]
            assert tag.mean[part] == pytest.approx(np.mean(known))
            assert tag.deviation[part] == pytest.approx(np.std(known))
    assert [tag.unknown for tag in found.tags] == pytest.approx(
        [sum(row[tag.name] is None for row in rows) / 300 for tag in manifest.tags]
    )
    assert found.tags_per_song.tolist() == [sum(row[f"tag {i}"] == 1 for i in range(6)) for row in rows]
    splits_of = {row["group"]: {other["split"] for other in rows if other["group"] == row["group"]} for row in rows}
    del splits_of[None]
    assert found.shared_groups == sorted(group for group, splits in splits_of.items() if len(splits) > 1)
    for split, exposed in found.exposed.items():
        songs = [row for row in rows if row["split"] == split]
        assert exposed == sum("train" in splits_of.get(row["group"], ()) for row in songs)
    for first in range(6):
        for second in range(6):
            pairs = [(row[f"tag {first}"], row[f"tag {second}"]) for row in rows]
            known = [pair for pair in pairs if None not in pair]
            both, either = sum(pair == (1, 1) for pair in known), sum(1 in pair for pair in known)
            expected = sum(one for one, _ in known) * sum(other for _, other in known) / len(known)
            assert found.together.songs[first, second] == both
            assert found.together.expected[first, second] == pytest.approx(expected)
            assert found.together.jaccard[first, second] == pytest.approx(both / either)
    strongest = found.together.strongest(3)
    assert strongest[0][:2] == ("tag 0", "tag 1")
    assert [pair[3] for pair in strongest] == sorted((pair[3] for pair in strongest), reverse=True)
    assert all(lift > 1 for *_, lift in strongest)


def test_lengths_come_from_prepared_audio_where_there_is_some(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_catalogue)
    (tiny_catalogue.parent / rows[2]["path"]).write_bytes(b"")
    durations = {row["song_id"]: 1000.0 for row in rows[:20]}
    write_table(tiny_catalogue, [row | {"duration": durations.get(row["song_id"], "")} for row in rows])
    source = CatalogueFile(tiny_catalogue)
    manifest = source.manifest()
    seconds, where = song_seconds(source, manifest, tmp_path)
    assert (np.isnan(seconds).sum(), where) == (4, "lengths from the table, and no prepared audio yet")
    store = prepare(source, tmp_path, manifest=manifest.select(np.arange(10))).store
    seconds, where = song_seconds(source, manifest, tmp_path)
    lengths = dict(zip(store.song_ids, store.num_samples / 16000, strict=True))
    expected = [lengths.get(song, durations.get(song, np.nan)) for song in manifest.song_ids]
    np.testing.assert_allclose(seconds, expected)
    assert where == f"lengths of 9 songs from the prepared audio in {store.folder}, 1 cannot be used"


def test_no_more_of_a_song_counts_than_is_used(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_catalogue)
    lengths = [1000.0, 2.0, *[""] * (len(rows) - 2)]
    write_table(tiny_catalogue, [row | {"duration": length} for row, length in zip(rows, lengths, strict=True)])
    source = CatalogueFile(tiny_catalogue, max_seconds=30)
    np.testing.assert_array_equal(song_seconds(source, source.manifest(), tmp_path)[0][:3], [30, 2, np.nan])


def test_prepared_audio_at_another_rate_is_found(tiny_catalogue: Path, tmp_path: Path) -> None:
    source = CatalogueFile(tiny_catalogue, sample_rate=8000)
    store = prepare(source, tmp_path, sample_rate=8000).store
    seconds, where = song_seconds(source, source.manifest(), tmp_path)
    assert where == f"lengths of 24 songs from the prepared audio in {store.folder}"
    np.testing.assert_allclose(seconds, store.num_samples[store.rows_of(source.manifest().song_ids)] / 8000)


@pytest.mark.parametrize(
    ("classes", "measures"),
    [
        (3, 1),
        (0, 2),
        *(pytest.param(*numbers, marks=pytest.mark.slow) for numbers in ((50, 0), (129, 10), (2, 70))),
    ],
)
def test_the_pictures_are_drawn_for_any_number_of_tags(tmp_path: Path, classes: int, measures: int) -> None:
    description = described(random_manifest(400, classes, measures))
    plot_prevalence(description, tmp_path / "prevalence.png")
    height = matplotlib.image.imread(tmp_path / "prevalence.png").shape[0] / 130
    assert 0.19 * min(classes, 60) + 0.19 * min(measures, 60) < height < 30
    assert plot_together(description, tmp_path / "together.png") == (classes >= 2)
    assert (tmp_path / "together.png").exists() == (classes >= 2)
    if classes >= 2:
        assert max(matplotlib.image.imread(tmp_path / "together.png").shape) < 2600


@pytest.mark.filterwarnings("ignore:Glyph")
def test_tags_without_songs_and_names_of_any_kind_can_be_drawn(tmp_path: Path) -> None:
    table = random_manifest(60, 4).table
    names = [*table.column_names[:5], "a $very$ long name that does not fit into a label", "[bold]_{x}^2", "空", "d"]
    table = table.rename_columns(names).set_column(8, "d", pa.nulls(60, pa.float32()))
    description = described(Manifest(table, [Tag(name) for name in names[5:]], "odd"))
    plot_prevalence(description, tmp_path / "prevalence.png")
    assert plot_together(description, tmp_path / "together.png")


def test_a_catalogue_is_described(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    table = tiny_catalogue.rename(tiny_catalogue.with_name("my = songs ${x}.csv"))
    write_table(table, [row | {"group": f"artist {i % 9}"} for i, row in enumerate(read_rows(table))])
    assert cli.main(["data", "describe", str(table)]) == 0
    shown = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert [cell for cell in cells if cell[0] in (*SPLITS, "all")] == [
        ["train", "12", "unknown", "9"],
        ["validation", "5", "unknown", "5"],
        ["test", "7", "unknown", "7"],
        ["all", "24", "unknown", "9"],
    ]
    assert ["high", "", "50.0%", "60.0%", "57.1%", "54.2%"] in cells
    (brightness,) = [cell for cell in cells if cell[0] == "brightness"]
    assert brightness[1] == "4.2%"
    assert "±" in brightness[5]
    assert "9 groups appear in more than one split" in shown
    assert "5 songs of validation and 7 songs of test belong to groups of the training split" in shown
    assert "no lengths in the table, and no prepared audio yet; unknown for 24 songs" in shown
    folder = Path("describe-my-songs-x-")
    assert f"figures: {folder / 'prevalence.png'}, {folder / 'together.png'}" in shown
    assert sorted(file.name for file in folder.iterdir()) == ["prevalence.png", "together.png"]


def test_any_data_set_is_described_by_the_words_of_training(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pictures"
    words = ["data=catalogue", f"data.path={tiny_catalogue}", "data.tags=[high]", f"data_dir={tmp_path}"]
    assert cli.main(["data", "describe", *words, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "noisy" not in shown
    assert "no figure of co-occurrence, because fewer than two tags have songs" in shown
    assert [file.name for file in out.iterdir()] == ["prevalence.png"]
    assert cli.main(["data", "describe", str(tiny_catalogue), "data.tags=[noisy]", "--out", str(out)]) == 0
    assert "high" not in capsys.readouterr().out


def test_what_cannot_be_described_says_so(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ([str(tiny_catalogue), "other.csv"], "one table at a time"),
        (["nowhere.csv"], "no catalogue at nowhere.csv"),
        ([str(tiny_catalogue), "data.colour=red"], "data has no key colour"),
        (["data=catalogue"], "use data.path="),
        ([str(tiny_catalogue), "--out", str(tiny_catalogue)], "choose another folder with --out"),
    ):
        assert cli.main(["data", "describe", *words]) == 1
        assert message in capsys.readouterr().err
