"""A path is a path: ~ is the home folder wherever one can be typed, and a name may hold what it likes."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, read_write

from musictag import cli
from musictag.common.errors import MusictagError
from musictag.common.paths import expanded, path_argument, song_argument
from musictag.data.datasets import Source
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.experiment import compose as preparing
from musictag.experiment import run as experiment
from musictag.experiment.compose import compose
from musictag.experiment.overrides import PATH_KEYS, plain_config, readable
from musictag.experiment.sweeps import study
from musictag.models.factory import find_class
from tests.helpers.catalogues import write_catalogue
from tests.helpers.experiments import ROOT, TINY
from tests.helpers.sweeps import sweep_config

#: Names that Hydra or OmegaConf read as something else, or not at all.
NAMES = (
    "a${b}.csv", "${oc.env:HOME}.csv", "a${b.csv", "$b}.csv", "back\\${x}.csv", "two words.csv", "it's.csv", 'say "x"',
    "[a].csv", "{a}.csv", "(a).csv", "a,b.csv", "a=b.csv", "größe.csv", "音楽.csv", os.fsdecode(b"caf\xe9.csv"), "123",
    "1e3", "true", "a:b.csv", "a#b%c@d!.csv", " leading.csv", "back\\slash.csv", "'quoted'.csv", "a~b.csv", "x.csv",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder; the current one is another."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def plain(key: str, value: str) -> str:
    """What becomes of the word ``key=value``, without all the rest of the configuration."""
    (word,) = readable([f"{key}={value}"])
    given = OverridesParser.create().parse_override(word)
    config = OmegaConf.create({"data": {}})
    OmegaConf.update(config, given.key_or_group, given.value())
    group, _, name = key.rpartition(".")
    made = plain_config(config)
    return made[group][name] if group else made[name]


@pytest.mark.parametrize("key", PATH_KEYS)
def test_every_key_that_is_a_path(key: str, home: Path) -> None:
    for value in ("~/a/b c", "'~/a/b c'", '"~/a/b c"'):
        assert plain(key, value) == str(home / "a" / "b c")
    assert plain(key, "~") == str(home)
    for empty in ("", "''", "' '"):
        with pytest.raises(MusictagError, match=f"^{re.escape(key)} is empty; it needs a path"):
            plain(key, empty)
    if PATH_KEYS[key]:
        assert plain(key, "null") is None
    else:
        with pytest.raises(MusictagError, match=f"^{re.escape(key)} must be a path, as a string; it is null"):
            plain(key, "null")


@pytest.mark.parametrize("value", ["2024", "[a,b]"])
def test_what_a_file_of_the_configuration_may_hold_by_mistake(value: str) -> None:
    config = OmegaConf.create(f"{{runs_dir: {value}, data: {{}}}}")
    with pytest.raises(MusictagError, match="runs_dir must be a path, as a string; it is"):
        plain_config(config)


def test_a_list_of_soundfonts_may_hold_the_default(home: Path) -> None:
    assert plain("data.soundfont", "[null,'~/a.sf2',/b.sf2]") == [None, str(home / "a.sf2"), "/b.sf2"]
    with pytest.raises(MusictagError, match=r"^data\.soundfont is empty; it needs a path|must be a path"):
        plain("data.soundfont", "[' ']")


def test_the_command_line_knows_home(home: Path) -> None:
    words = ["data=jamendo", "data.root=~/music", "data.lists='~/lists'", "runs_dir=~/r", "data_dir=~", "init_from=~/x"]
    config = compose(words)
    found = [config["data"]["root"], config["data"]["lists"], config["runs_dir"], config["data_dir"]]
    assert found == [f"{home}/music", f"{home}/lists", f"{home}/r", str(home)]
    assert config["init_from"] == f"{home}/x"
    with pytest.raises(MusictagError, match=r"^data\.path is empty; it needs a path"):
        compose(["data=catalogue", "data.path="])


def test_every_path_of_every_data_set_is_such_a_key() -> None:
    for file in (ROOT / "conf" / "data").glob("[!_]*.yaml"):
        conf = OmegaConf.load(file)
        parameters = inspect.signature(find_class(conf._target_, Source)).parameters
        paths = {name for name, parameter in parameters.items() if "Path" in str(parameter.annotation)}
        assert {f"data.{name}" for name in paths & set(conf)} <= set(PATH_KEYS), file.name
    assert [key for key in OmegaConf.load(ROOT / "conf" / "train.yaml") if key.endswith(("_dir", "_from"))] == [
        "init_from", "runs_dir", "data_dir",
    ]  # fmt: skip


def test_a_source_of_ones_own_finds_its_home_too(home: Path) -> None:
    assert plain("data.folder", "~/x") == str(home / "x")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at_home", [False, True])
def test_a_file_that_is_there_needs_no_quotes(name: str, at_home: bool, home: Path) -> None:
    place = home if at_home else Path()
    (place / name).write_text("")
    typed = f"~/{name}" if at_home else name
    assert plain("data.path", typed) == str(place / name)
    # what is read once is read the same by the process that it is handed on to
    (word,) = readable([f"data.path={typed}"])
    assert readable([word]) == [word]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_yet_to_be_made_needs_quotes_where_another_thing_could_be_meant(name: str, home: Path) -> None:
    if name in ("a,b.csv", " leading.csv", "'quoted'.csv", "back\\slash.csv") or "${" in name:
        return  # a sweep, what Hydra leaves out, and other keys
    assert plain("runs_dir", f"new/{name}") == f"new/{name}"
    assert plain("runs_dir", f"~/{name}") == f"{home}/{name}"


@pytest.mark.parametrize("value", ["~/${seed}", "größe/${seed}", "x${seed}", "'~/${seed}'"])
def test_other_keys_are_put_in(value: str, home: Path) -> None:
    assert compose(["seed=7", f"runs_dir={value}"])["runs_dir"] == os.path.expanduser(value.strip("'")).replace(
        "${seed}", "7"
    )


@pytest.mark.parametrize("value", ["a${b}.csv", "~/a${b}", "a${b.csv"])
def test_an_interpolation_of_nothing_says_what_to_write(value: str, home: Path) -> None:
    with pytest.raises(MusictagError, match=r"is the value of another key") as caught:
        compose([f"runs_dir={value}"])
    assert "'key=\"a\\${b}\"'" in str(caught.value)
    assert plain("runs_dir", '"' + value.replace("${", "\\${") + '"') == os.path.expanduser(value)


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("init_from=~/a.ckpt,~/b c.ckpt", "init_from=HOME/a.ckpt,'HOME/b c.ckpt'"),
        ("init_from=choice(~/a,~/b c)", "init_from=choice(HOME/a,'HOME/b c')"),
        ("data.path=ä.csv,b.csv", "data.path='ä.csv',b.csv"),
        ("hydra.sweep.dir=~/x", "hydra.sweep.dir=HOME/x"),
        ("--config-dir=~/x", "--config-dir=HOME/x"),
        ("+data.root=~", "+data.root=HOME"),
        ("runs_dir=${oc.env:USER}/x", "runs_dir=${oc.env:USER}/x"),
        *((word, word) for word in ("~data.max_seconds", "~data.max_seconds=1", "-m", "seed=1,2", "seed=[1", "x=ä")),
    ],
)
def test_what_hydra_gets_to_read(word: str, read: str, home: Path) -> None:
    assert readable([word]) == [read.replace("HOME", str(home))]
    if not word.startswith("-") and word not in ("seed=[1", "x=ä"):
        OverridesParser.create().parse_overrides(readable([word]))


def test_the_home_of_somebody_unknown_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        MusictagError, match=r"runs_dir: ~nobody-here/x .* home folder of nobody-here, who is not known"
    ):
        compose(["runs_dir=~nobody-here/x"])
    with pytest.raises(argparse.ArgumentTypeError, match="who is not known"):
        path_argument("~nobody-here/x")
    Path("~nobody-here").write_text("")  # a file that is called just so
    assert Path(expanded("~nobody-here", "x")).samefile("~nobody-here")
    assert song_argument("~nobody-there") == "~nobody-there"
    import pwd

    user = pwd.getpwuid(os.getuid())
    assert expanded(f"~{user.pw_name}/x", "x") == f"{user.pw_dir}/x"


def test_home_in_a_study(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sweep_config("sweep=dataset_size_small", "data=catalogue")
    with read_write(config.hydra):
        config.hydra.sweeper.params = {"init_from": "~/a.ckpt,~/it's.ckpt", "seed": 1, "data.path": "a$b.csv,c d.csv"}
    written: list[list[str]] = []
    monkeypatch.setattr(study, "write_down", written.extend)
    study.WriteDownStudy().on_multirun_start(config)
    jobs = [compose(job) for job in written]
    assert [(job["init_from"], job["data"]["path"]) for job in jobs] == [
        (str(home / model), table) for model in ("a.ckpt", "it's.ckpt") for table in ("a$b.csv", "c d.csv")
    ]


def test_the_jobs_of_a_sweep_are_not_resolved_twice(home: Path) -> None:
    words = readable(['runs_dir="~/a\\${b}"', "seed=0,1"])
    config = sweep_config(words[0])
    with read_write(config.hydra):
        config.hydra.overrides.task = words
    assert [compose(job)["runs_dir"] for job in study.job_overrides(config)] == [str(home / "a${b}")] * 2
    with read_write(config):
        config.runs_dir = "~/runs"
    assert config.hydra.sweep.dir == str(home / "runs" / "multirun")


@pytest.mark.parametrize("name", ["./~", "s3::b", "memory:x {epoch}"])
def test_a_training_is_not_lost_to_a_folder_with_a_special_name(home: Path, tmp_path: Path, name: str) -> None:
    table = write_catalogue(tmp_path / "music")
    words = [
        *TINY,
        "data=catalogue",
        f"data.path={table}",
        "trainer.max_epochs=1",
        "data_dir=~/data",
        f"runs_dir='{name}'",
    ]
    config = compose(words)
    folder = experiment.results_folder(config)
    experiment.run(config)
    found = {"tagger.safetensors", "last.ckpt", "config.json", "history.csv", "metrics.json", "predictions.npz"}
    assert found <= set(os.listdir(folder))
    assert folder.parents[1].resolve() == Path.cwd() / name
    assert os.listdir(home) == ["data"]
    assert name != "./~" or str(folder).startswith("/")  # so that it means the same where it is printed and typed again


def test_every_path_of_the_command_line_knows_home(monkeypatch: pytest.MonkeyPatch) -> None:
    parsers: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
        parsers.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(SystemExit):
        cli.main([])
    seen, known = set(), (path_argument, song_argument)
    for parser in parsers:  # grows
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
                for verb in action.choices.values():
                    if verb._module is not None:
                        import_module(verb._module).add_arguments(verb)
            elif action.metavar in ("FILE", "FOLDER", "MODEL", "CATALOGUE", "PATH"):
                assert action.type in known, (parser.prog, action.dest)
                seen.add((parser.prog.removeprefix("musictag "), action.dest))
    assert len(seen) >= 14
    assert {("tag", "files"), ("embed", "out"), ("pretrained", "file"), ("data check", "root")} <= seen
    assert {("report", "out"), ("compare", "runs"), ("status", "runs"), ("plan", "run_folder")} <= seen


def test_an_empty_option_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["data", "check", ""], ["tag", "x.wav", "--model", ""], ["status", " "]):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 2
        assert "is empty; it needs a path" in capsys.readouterr().err


def test_catalogues_in_the_home_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_catalogue(home / "my music")
    assert cli.main(["data", "check", "~/my music/catalogue.csv", "--root", "~/my music"]) == 0
    words = ["prepare", "~/my music/catalogue.csv", "data_dir=~/data", "data.prepare_workers=1"]
    assert cli.main([*words, "data.root=~/my music"]) == 0
    assert cli.main(["data", "describe", "~/my music/catalogue.csv", "data_dir=~/data", "--out", "~/pictures"]) == 0
    assert sorted(os.listdir(home)) == ["data", "my music", "pictures"]
    assert os.listdir() == []
    config = preparing.configuration(["~/my music/catalogue.csv"])
    assert CatalogueFile(config["data"]["path"]).manifest().song_ids[0] == "train-00"
