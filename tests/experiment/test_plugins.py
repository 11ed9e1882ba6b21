"""Parts of one's own, without a fork: tests/plugin is installed into an environment of its own, and used from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import soundfile

import musictag
from musictag.cli import main
from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.experiment.compose import compose, presets
from musictag.models.factory import PLUGINS
from musictag.report.study import read_study
from tests.helpers.catalogues import read_rows, synthetic_song
from tests.helpers.experiments import ROOT, folders
from tests.helpers.processes import RECORDING, only_run, scores

SOURCE = ROOT / "tests" / "plugin"
TRAIN = str(ROOT / "train.py")
#: A run of a second: names of the plug-in's files, and of musictag's.
TINY = (
    "data=tones", "loss=focal", "callbacks=counting", "data.num_workers=0", "data.prepare_workers=1",
    "data.batch_size=4", "trainer.max_epochs=1", "trainer.accelerator=cpu", "evaluation.bootstrap_resamples=20",
)  # fmt: skip
#: The same parts by their classes, for a package that nobody has registered.
BY_CLASS = (
    "frontend._target_=my_package.parts.Envelopes", "+frontend.filters=8", "frontend.hop_samples=128",
    "backend=mean_and_deviation",
)  # fmt: skip


class Environment(NamedTuple):
    """A virtual environment in which the plug-in is installed."""

    python: str
    packages: Path

    def run(self, *words: str, status: int = 0, **more: str) -> str:
        """What the command prints, its errors included; it must end with ``status``."""
        done = subprocess.run([self.python, *words], capture_output=True, text=True, env=self.variables(more))
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def variables(self, more: dict[str, str]) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160", **more}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The plug-in, built and installed as `pip install` does it, beside all that this environment has."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source")
    builder = venv.EnvBuilder()
    builder.create(folder / "venv")
    python = builder.ensure_directories(folder / "venv").env_exe
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    here, there = (
        subprocess.run([program, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
        for program in (sys.executable, python)
    )
    Path(there, "beside.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", str(folder / "source")], check=True)
    return Environment(python, Path(there))


@pytest.fixture
def registered(installed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within this process the plug-in is there as its installation left it, its entry point included."""
    monkeypatch.syspath_prepend(installed.packages)
    _forget(monkeypatch)


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within this process the package can be imported, and is not registered."""
    monkeypatch.syspath_prepend(SOURCE / "src")
    _forget(monkeypatch)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, name)


def imported() -> bool:
    return any(name.partition(".")[0] == "my_package" for name in sys.modules)


def wav(folder: Path) -> str:
    soundfile.write(folder / "song.wav", synthetic_song(2.0, True, False, 0.5, seed=1), 16000, subtype="PCM_16")
    return str(folder / "song.wav")


def trained(words: tuple[str, ...], tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    config = compose([*TINY, *words, *folders(tmp_path)])
    experiment.run(config)
    folder = experiment.results_folder(config)
    return folder, json.loads((folder / "metrics.json").read_text())


def test_a_registered_plug_in_is_there_by_name(
    registered: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "envelopes" in presets()
    assert not imported()  # nothing of it, by looking for its files
    folder, metrics = trained(("model=envelopes", "study=own"), tmp_path)
    assert (metrics["family"], metrics["input"]) == ("waveform", "envelopes")
    assert metrics["versions"]["my_package"] == "my-package 1.0"
    assert {part: metrics["config"][part]["_target_"] for part in ("frontend", "backend", "loss", "data")} == {
        "frontend": "my_package.parts.Envelopes",
        "backend": "my_package.parts.MeanAndDeviation",
        "loss": "my_package.losses.Focal",
        "data": "my_package.sources.Tones",
    }
    (run,) = read_study(tmp_path / "runs", "own").runs
    assert (run.system, run.family) == ("envelopes", "waveform")
    song = wav(tmp_path)
    capsys.readouterr()
    assert main(["tag", song, "--model", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[song].keys() == {"high", "noisy"}
    assert main(["models", "envelopes"]) == 0
    assert "envelopes, 1.00 s" in capsys.readouterr().out
    assert main(["plan", "--model", "envelopes", "--songs", "1000"]) == 0
    assert main(["prepare", "data=tones", "data.seconds=3", f"data_dir={tmp_path / 'data'}"]) == 0
    assert "32 songs, 1.6 minutes" in capsys.readouterr().out


def test_a_package_that_is_not_registered_works_by_search_path_and_by_class(
    importable: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MusictagError, match="Could not find 'model/envelopes'"):
        compose(["model=envelopes"])
    path = "hydra.searchpath=[pkg://my_package.conf]"
    assert compose([path, "frontend=envelopes"])["names"]["frontend"] == "envelopes"
    # beside a model, where the configuration is composed once more
    assert compose([path, "frontend=envelopes", "model=vgg"])["frontend"]["_target_"] == "my_package.parts.Envelopes"
    assert main(["plan", "--frontend", "envelopes", "--songs", "1000", path]) == 0
    folder, metrics = trained((path, *BY_CLASS), tmp_path)
    assert folder.name.startswith("Envelopes-mean_and_deviation-")
    assert metrics["config"]["frontend"] == {
        "_target_": "my_package.parts.Envelopes", "filters": 8, "hop_samples": 128,
    }  # fmt: skip
    names = compose(["model=vgg", BY_CLASS[0]])["names"]
    assert {name: names[name] for name in ("frontend", "backend", "model", "paper")} == {
        "frontend": "Envelopes", "backend": "vgg", "model": None, "paper": None,
    }  # fmt: skip
    assert metrics["versions"]["my_package"].startswith("source ")
    song = wav(tmp_path)

    # its file is refused before anything is imported, and is read by who trusts the package
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
    capsys.readouterr()
    for verb in (["tag", song], ["embed", song, "--out", str(tmp_path / "x.npz")], ["embed", "--list-layers"]):
        assert main([*verb, "--model", str(folder)]) == 1
        told = capsys.readouterr().err
        assert "'my_package.parts.Envelopes'" in told
        assert "musictag.load(path, trust=['my_package'])" in told
        assert "--trust my_package" in told
        assert not imported()
    for verb in (["tag", song], ["embed", song, "--out", str(tmp_path / "x.npz")], ["embed", "--list-layers"]):
        assert main([*verb, "--model", str(folder), "--trust", "my_package"]) == 0
    assert set(musictag.load(folder, trust=["my_package"]).tag(song)) == {"high", "noisy"}


@pytest.mark.slow
def test_fine_tuning_imports_what_the_configuration_names_and_nothing_of_the_file(
    importable: None, tmp_path: Path
) -> None:
    path = "hydra.searchpath=[pkg://my_package.conf]"
    folder, _ = trained((path, "model=envelopes"), tmp_path)
    start = f"init_from={folder / 'tagger.safetensors'}"
    again, _ = trained((path, "model=envelopes", start), tmp_path)  # trusted, as the words name its parts
    assert again != folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
    other = compose(["model=waveform_small", start, "data=songbook", *folders(tmp_path)])
    from musictag.models.network import TaggingNetwork
    from musictag.training.transfer import initialise_from

    network = TaggingNetwork(other["frontend"], other["backend"], [{"name": "high"}], 3.0)
    with pytest.raises(MusictagError, match="frontend: Envelopes, not SampleLevel"):
        initialise_from(network, other["init_from"])
    assert not imported()


def test_a_file_of_a_name_that_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def register(package: str, file: str) -> None:
        (tmp_path / package / "conf" / file).parent.mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "conf" / file).write_text("a: 1\n")
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{PLUGINS}]\n{package} = {package}\n")

    monkeypatch.syspath_prepend(tmp_path)
    register("first", "frontend/envelopes.yaml")
    assert compose(["frontend=waveform"])["names"]["frontend"] == "waveform"
    register("second", "frontend/envelopes.yaml")
    with pytest.raises(MusictagError, match=r"plug-in second has .*envelopes\.yaml, and first has a file of that name"):
        compose([])
    shutil.rmtree(tmp_path / "second")
    with pytest.raises(MusictagError, match=r"second is registered .* there is no such package; install it again"):
        compose([])
    shutil.rmtree(tmp_path / "second-1.0.dist-info")
    register("third", "frontend/waveform.yaml")
    with pytest.raises(MusictagError, match=r"plug-in third has .*waveform\.yaml, and musictag has a file of that"):
        compose([])


def test_its_author_runs_the_contracts(installed: Environment) -> None:
    told = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(SOURCE / "tests"))
    assert "24 passed" in told
    told = installed.run("-c", "import my_package; print(my_package.__file__)")
    assert str(installed.packages) in told  # the installed one


@pytest.mark.slow
def test_from_installation_to_tags(installed: Environment, tmp_path: Path) -> None:
    """Trained, interrupted and resumed, tagged with: every program in the plug-in's environment."""
    train = [TRAIN, "model=envelopes", *TINY, *folders(tmp_path), "study=own"]
    curves = ["+logger.curves._target_=pytorch_lightning.loggers.CSVLogger", f"+logger.curves.save_dir={tmp_path}"]
    longer = [*train, "trainer.max_epochs=3", *curves]
    installed.run(*longer, f"runs_dir={tmp_path / 'whole'}")
    # interrupted within the second epoch; the same words go on
    hurt = {"RECORD_FOLDER": str(tmp_path), "RECORD_HURT": "SIGINT:train:0:1:0"}
    installed.run(*longer, status=130, PYTHONPATH=os.pathsep.join([str(ROOT), RECORDING]), **hurt)
    assert not list((tmp_path / "runs").glob("*/*/metrics.json"))
    assert "after 1 finished epochs" in installed.run(*longer)
    whole, resumed = (only_run(tmp_path / place) for place in ("whole", "runs"))
    assert scores(resumed) == scores(whole)
    # what the callback had counted came back with the run: three epochs of 16 songs, a patch each
    *_, last = sorted((tmp_path / "lightning_logs").iterdir())
    counted = [row["patches_in_all"] for row in read_rows(last / "metrics.csv")]
    assert [float(count) for count in counted if count] == [32, 48]

    assert "high" in installed.run("-m", "musictag.cli", "tag", wav(tmp_path), "--model", str(whole))


@pytest.mark.slow
def test_a_sweep_and_its_report(installed: Environment, tmp_path: Path) -> None:
    """Each job is a process of its own, which finds what its sweep has found."""
    words = ["model=envelopes", *TINY, *folders(tmp_path)]
    installed.run(TRAIN, "-m", *words, "study=sizes", "frontend.filter_multiplier=0.5,1")
    (tmp_path / "conf" / "frontend").mkdir(parents=True)
    shutil.copy(SOURCE / "src/my_package/conf/frontend/envelopes.yaml", tmp_path / "conf/frontend/mine.yaml")
    for told in (f"hydra.searchpath=[file://{tmp_path / 'conf'}]", f"--config-dir={tmp_path / 'conf'}"):
        seed = f"seed={1 + told.startswith('-')}"
        assert "1 jobs; to watch them" in installed.run(TRAIN, "-m", told, *words, "frontend=mine", seed, "study=mine")
    runs = tmp_path / "runs" / "tones"
    assert len(list(runs.glob("mine-envelopes-*/metrics.json"))) == 2
    installed.run("-m", "musictag.cli", "report", str(runs), "--study", "sizes", "--out", str(tmp_path / "report"))
    rows = read_rows(tmp_path / "report" / "runs.csv")
    assert [(row["system"], row["family"], row["input"]) for row in rows] == [
        ("envelopes", "waveform", "envelopes")
    ] * 2
