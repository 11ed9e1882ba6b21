"""A single word or number where a list is expected becomes a list, in every list setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from musictag.common.errors import MusictagError
from musictag.common.text import as_list
from musictag.data.catalogue.check import check
from musictag.data.datasets import Source
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.manifest import Tag
from musictag.experiment.builders import build_source
from musictag.models.backends import BackEnd
from musictag.models.baselines import FeatureModel
from musictag.models.factory import build, find_class, settings, takes_list
from musictag.models.frontends import FrontEnd
from musictag.training.transfer import PROBE
from tests.helpers.catalogues import write_songs, write_table
from tests.helpers.experiments import ROOT, compose_config
from tests.helpers.models import spec

CONTRACTS = {"frontend": FrontEnd, "backend": BackEnd, "data": Source, "baseline": FeatureModel, "probe": BackEnd}
DERIVED = {"in_channels": 8, "in_frames": 8, "num_tags": 3}


def target_of(group: str, name: str) -> str:
    """The class of a file in conf; those of probes are all the same."""
    return yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text()).get("_target_", PROBE)


def list_settings() -> list[tuple[str, str, str, str]]:
    """Group, file, key and annotation of every setting of the configuration that takes a list."""
    found = []
    for group, contract in CONTRACTS.items():
        for path in sorted((ROOT / "conf" / group).glob("[!_]*.yaml")):
            for key, parameter in settings(find_class(target_of(group, path.stem), contract)).items():
                if takes_list(str(parameter.annotation)):
                    found.append((group, path.stem, key, str(parameter.annotation)))
    return found


SETTINGS = list_settings()


def test_every_list_of_the_configuration_is_a_setting_that_is_known_to_be_one() -> None:
    known = {(group, name, key) for group, name, key, _ in SETTINGS}
    for group in CONTRACTS:
        for path in (ROOT / "conf" / group).glob("[!_]*.yaml"):
            for key, value in (yaml.safe_load(path.read_text()) or {}).items():
                if isinstance(value, list) and key != "defaults":
                    assert (group, path.stem, key) in known, f"conf/{group}/{path.name}: {key}"
    assert {key for _, _, key, _ in SETTINGS} >= {"tags", "split_fractions", "filters", "hidden_units", "penalties"}


@pytest.mark.parametrize(("group", "name", "key", "annotation"), SETTINGS, ids=lambda value: str(value)[:24])
def test_one_element_is_a_list_of_one(
    monkeypatch: pytest.MonkeyPatch, group: str, name: str, key: str, annotation: str
) -> None:
    target = target_of(group, name)
    cls = find_class(target, CONTRACTS[group])
    given: dict[str, Any] = {}
    # parameters come from the class, values from what it was given
    parameters = settings(cls)
    monkeypatch.setattr("musictag.models.factory.settings", lambda _: parameters)
    monkeypatch.setattr(cls, "__init__", lambda self, **settings: given.update(settings))
    single: Any = "rock" if annotation.startswith("Sequence[str]") else 2
    derived = {k: v for k, v in DERIVED.items() if k in parameters}
    needed = {k: 1 for k, p in parameters.items() if p.default is p.empty and k not in derived}
    build({"_target_": target, **needed, key: single}, CONTRACTS[group], **derived)
    assert given[key] == ([[single]] if "Sequence[Sequence" in annotation else [single])
    build({"_target_": target, **needed, key: [single, single]}, CONTRACTS[group], **derived)
    assert given[key] == ([[single], [single]] if "Sequence[Sequence" in annotation else [single, single])
    with pytest.raises(MusictagError, match=f"{key}= is empty"):
        build({"_target_": target, **needed, key: ""}, CONTRACTS[group], **derived)
    if isinstance(single, int):
        for word in ("rock", "12", True):
            with pytest.raises(MusictagError, match=f"{key}={word!r} is not a number"):
                build({"_target_": target, **needed, key: word}, CONTRACTS[group], **derived)


@pytest.mark.parametrize("value", ["rock", b"rock", 3, 0.5])
def test_one_thing_is_a_list(value: Any) -> None:
    assert as_list(value) == [value]


@pytest.mark.parametrize("value", [["rock"], ("a", "b"), None, {"rock": None}])
def test_lists_stay(value: Any) -> None:
    assert as_list(value) is value


def test_one_tag_of_a_catalogue(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.wav", "rock": i % 2, "r": 0, "1990": i % 2} for i in range(6)]
    path = write_table(tmp_path / "c.csv", rows)
    write_songs(tmp_path, 6)
    assert CatalogueFile(path, tags="rock").manifest().tags == (Tag("rock"),)
    for written, names in (
        ("rock", ["rock"]),
        ("[rock]", ["rock"]),
        ("1990", ["1990"]),
        ("[1990,rock]", ["1990", "rock"]),
    ):
        config = compose_config("data=catalogue", f"data.path={path}", f"data.tags={written}")
        assert [tag.name for tag in build_source(config).manifest().tags] == names
    assert not check(path, tags="rock").errors
    config = compose_config("data=catalogue", f"data.path={path}", "data.tags={1990: regression}")
    assert build_source(config).manifest().tags == (Tag("1990", "regression"),)
    with pytest.raises(MusictagError, match=r"tags without a column; .*: jazz"):
        CatalogueFile(path, tags="jazz").manifest()
    with pytest.raises(MusictagError, match=r"split_fractions=\[0\.8\]: give one positive fraction"):
        build_source(compose_config("data=catalogue", f"data.path={path}", "data.split_fractions=0.8"))
    with pytest.raises(MusictagError, match="split_fractions='all' is not a number"):
        build_source(compose_config("data=catalogue", f"data.path={path}", "data.split_fractions=all"))


def test_one_number_of_layers() -> None:
    one = build({"_target_": "musictag.models.backends.dense.Dense", "hidden_units": 16}, BackEnd, **DERIVED)
    same = build({"_target_": "musictag.models.backends.dense.Dense", "hidden_units": [16]}, BackEnd, **DERIVED)
    assert [p.shape for p in one.parameters()] == [p.shape for p in same.parameters()]
    assert np.sum([p.numel() for p in one.parameters()]) > 0
    with pytest.raises(MusictagError, match="for each of the 1 layers"):
        build(spec("frontend", "vgg") | {"filters": 32}, FrontEnd)
