"""Where a run lives and what the system grants it: odd and long names, few open files, no room for temporary files."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from tests.helpers.catalogues import synthetic_song, write_table
from tests.helpers.experiments import ROOT
from tests.helpers.failures import Lab, labs
from tests.helpers.reliability import Bench, bench, check_whole, only

pytestmark = pytest.mark.slow

FILES = 256  # what macOS grants by default; Linux 1,024


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("places")) as made:
        yield made


def quoted(path: Path) -> str:
    """As Hydra's command line wants a word with signs of its own: in quotes, with a backslash before quotes."""
    return "'" + str(path).replace("'", "\\'") + "'"


NAMES = ["two words", 'it\'s a "name"', "größe–音楽", "a=b, c [d] {e}", "$HOME & (more); *", "-x"]


@pytest.mark.parametrize("name", NAMES)
def test_folders_may_have_any_name(run: Bench, name: str) -> None:
    place = run.folder / "names" / name
    words = [*run.settings, f"runs_dir={quoted(place / 'runs')}", f"data_dir={quoted(place / 'data')}"]
    status, said = run.lab.run(*words)
    assert status == 0, said
    check_whole(only(place / "runs"), run.whole)
    assert len(list((place / "data").glob("*/index.parquet"))) == 1
    status, said = run.lab.run(*words)
    assert "Finished before" in said


@pytest.mark.parametrize("name", [name for name in NAMES if "," not in name])
def test_folders_need_no_quotes(run: Bench, name: str) -> None:
    place = run.folder / "unquoted" / name
    status, said = run.lab.run(*run.settings, f"runs_dir={place / 'runs'}", f"data_dir={place / 'data'}")
    assert status == 0, said
    check_whole(only(place / "runs"), run.whole)


@pytest.mark.parametrize("typed", ["~/runs", "'~/runs'"])
def test_the_home_folder_may_be_typed(run: Bench, typed: str, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    words = [*run.settings, f"runs_dir={typed}", "data_dir=~/data"]
    status, said = run.lab.run(*words, environment=home)
    assert status == 0, said
    check_whole(folder := only(tmp_path / "runs"), run.whole)
    status, said = run.lab.run("-m", *words, "study=home", "seed=0,1", environment=home)
    assert status == 0, said
    assert len(list((tmp_path / "runs").glob("*/*/metrics.json"))) == 2
    assert (tmp_path / "runs" / "multirun" / "multirun.yaml").is_file()
    model = f"~/{folder.relative_to(tmp_path)}/tagger.safetensors"
    song = next((run.folder / "music" / "audio").glob("*.wav"))
    status, said = run.lab.run("tag", str(song), "--model", model, program="musictag.cli", environment=home)
    assert status == 0, said
    assert not Path("~").exists()


def test_a_name_that_means_another_key_says_what_to_write(run: Bench) -> None:
    status, said = run.lab.run(*run.settings, f"runs_dir={run.folder}/a${{b}}")
    assert status == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].endswith("write \\${ in quotes: 'key=\"a\\${b}\"'")


def test_the_jobs_of_a_study_find_a_folder_of_any_name(run: Bench) -> None:
    place = run.folder / "studies" / NAMES[1] / NAMES[3] / NAMES[2]
    words = [*run.settings, f"runs_dir={quoted(place)}", f"data_dir={run.folder / 'data'}", "study=names", "seed=0,1"]
    status, said = run.lab.run("-m", *words)
    assert status == 0, said
    assert len(list(place.glob("*/*/metrics.json"))) == 2
    check_whole(place / run.whole.parent.name / run.whole.name, run.whole.parent / run.whole.name)
    status, said = run.lab.run("status", str(place), program="musictag.cli")
    assert said.splitlines()[-1] == "2 jobs: 2 done"


@pytest.mark.parametrize("long", ["a name", "a path"])
def test_a_name_that_the_file_system_does_not_take_is_said_before_any_work(run: Bench, long: str) -> None:
    place = run.folder / ("x" * 300 if long == "a name" else "/".join(["y" * 200] * 21))
    status, said = run.lab.run(*run.words(place))
    assert status == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(f"musictag: cannot read {place}")
    assert "File name too long" in said.splitlines()[-1]
    assert "runs_dir=" in said.splitlines()[-1]
    assert "train_loss" not in said


def test_a_path_may_be_as_long_as_the_file_system_takes(run: Bench) -> None:
    place = run.folder / "/".join(["z" * 200] * 15)
    assert run.lab.run(*run.words(place))[0] == 0
    check_whole(only(place), run.whole)


@pytest.fixture(scope="module")
def many_songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 600 songs of half a second."""
    folder = tmp_path_factory.mktemp("many")
    rows = []
    for number in range(600):
        audio = synthetic_song(0.5, number % 2 == 0, False, 0.5, seed=number)
        soundfile.write(folder / f"{number:03d}.wav", audio, 16000, subtype="PCM_16")
        split = ("train", "train", "validation", "test")[number // 2 % 4]
        rows.append({"song_id": f"song-{number:03d}", "path": f"{number:03d}.wav", "split": split, "high": number % 2})
    return write_table(folder / "catalogue.csv", rows)


def test_few_open_files_are_enough_for_many_shards(run: Bench, many_songs: Path) -> None:
    data = run.folder / "many shards"
    prepared = prepare(CatalogueFile(many_songs), data, songs_per_shard=1)
    assert len(list((prepared.store.folder / "shards").glob("*.npy"))) == 600 > 2 * FILES
    few = {"do": "limit", "files": FILES}
    settings = [f"data.path={many_songs}", "trainer.max_epochs=2", "data.num_workers=2", "study=many"]
    status, said = run.lab.run(*run.words("many", *settings, data=data), failure=few)
    assert status == 0, said
    status, said = run.lab.run(*run.words("plenty", *settings, data=data))
    assert status == 0, said
    check_whole(only(run.folder / "many"), only(run.folder / "plenty"))
    status, said = run.lab.run(
        "report", str(run.folder / "many"), "--study", "many", program="musictag.cli", failure=few
    )
    assert status == 0, said
    # and to make them: with worker processes, in shards of the usual size
    words = [str(many_songs), f"data_dir={run.folder / 'made'}", "data.prepare_workers=2"]
    status, said = run.lab.run("prepare", *words, program="musictag.cli", failure=few)
    assert status == 0, said
    assert "600 songs" in said


def test_no_home_no_locale_and_a_full_tmp_change_nothing(run: Bench, tmp_path: Path) -> None:
    plain = {
        "HOME": None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None, "MPLCONFIGDIR": None, "TMPDIR": None,
        "LANG": None, "LC_ALL": "C", "PYTHONIOENCODING": None, "PYTHONUTF8": None,
    }  # fmt: skip
    shutil.copytree(run.folder / "music", run.folder / "größe")
    with labs(tmp_path, mounts=True, environment=plain) as (lab,):
        fill_tmp(lab, [run.folder, tmp_path, ROOT, Path(sys.prefix)])
        table = run.folder / "größe" / "catalogue.csv"
        words = run.words("plain", f"data.path={quoted(table)}", "data.prepare_workers=2", data="plain data")
        status, said = lab.run(*words)
        assert status == 0, said
        folder = only(run.folder / "plain")
        status, said = lab.run(
            "tag", str(run.folder / "größe" / "audio" / "test-00.wav"), "--model", str(folder / "tagger.safetensors"),
            program="musictag.cli",
        )  # fmt: skip
        assert status == 0, said
    assert (folder / "predictions.npz").read_bytes() == (run.whole / "predictions.npz").read_bytes()


def fill_tmp(lab: Lab, kept: list[Path]) -> None:
    """Full disks where temporary files go, as the lab sees them; what is ``kept`` of there stays where it was."""
    lab.shell("mount", "--rbind", "/", "/mnt")
    for place in sorted({tempfile.gettempdir(), "/tmp", "/var/tmp"}):
        lab.shell("mount", "-t", "tmpfs", "-o", "size=64k", "full", place)
        for path in kept:
            if path.is_relative_to(place):
                lab.shell("mkdir", "-p", str(path))
                lab.shell("mount", "--rbind", f"/mnt{path}", str(path))
        lab.shell("sh", "-c", f"cat /dev/zero > {place}/filler; test -s {place}/filler")
