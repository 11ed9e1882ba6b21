"""Every front-end and back-end in conf/ fulfils its contract, with every partner."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import nn

from musictag import testing
from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd
from musictag.models.factory import build, find_class, settings
from musictag.models.frontends import FAMILIES, FrontEnd
from musictag.models.inference_form import Chain, Stage
from tests.helpers.models import (
    BACKENDS,
    CLASSES,
    FRONTENDS,
    PRESETS,
    SMALL_MULTIPLIER,
    build_frontend,
    make_frontend,
    preset,
    spec,
    with_few_units,
)

#: All; those that are not slow have each front-end with two back-ends, and each back-end with two front-ends or more.
PAIRS = [
    pytest.param(frontend, backend, marks=[] if (j - i) % len(BACKENDS) in (0, 5) else pytest.mark.slow)
    for (i, frontend), (j, backend) in itertools.product(enumerate(FRONTENDS), enumerate(BACKENDS))
]


def parts_of(group):
    """Every class, and what papers make of it: the latter marked slow."""
    names = {"frontend": FRONTENDS, "backend": BACKENDS}[group]
    return [name if name in CLASSES[group] else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", parts_of("frontend"))
@pytest.mark.parametrize("check", testing.FRONTEND_CHECKS)
def test_front_end(check, name):
    check(spec("frontend", name))


@pytest.mark.parametrize("name", parts_of("backend"))
@pytest.mark.parametrize("check", testing.BACKEND_CHECKS)
def test_back_end(check, name):
    check(spec("backend", name))


@torch.inference_mode()
@pytest.mark.parametrize("name", FRONTENDS)
def test_every_stage_of_an_inference_form_is_used(name, monkeypatch):
    """A front-end that takes the layers of a chain one by one has the same features, and never the faster form."""
    frontend, used = make_frontend(name, filter_multiplier=SMALL_MULTIPLIER).eval(), []
    call = Stage.__call__
    monkeypatch.setattr(Stage, "__call__", lambda stage, features: (used.append(stage), call(stage, features))[1])
    form = frontend.inference_form()
    form(torch.zeros(1, frontend.samples_for(2)))
    assert set(used) == set(stages(form)) != set()


def stages(form):
    for chain in [module for module in form.modules() if isinstance(module, Chain)]:
        for step in chain._steps:
            yield from [step] if isinstance(step, Stage) else stages(step)


class Long(BackEnd):
    """A back-end of a plug-in that needs many frames."""

    min_frames, fixed_length = 60, False

    def __init__(self, in_channels: int, in_frames: int, num_tags: int):
        super().__init__()
        self.conv, self.output = nn.Conv1d(in_channels, 8, 60), nn.Linear(8, num_tags)

    def forward(self, features):
        return self.output(self.conv(features).mean(2))


@pytest.mark.parametrize("check", testing.BACKEND_CHECKS)
def test_a_back_end_may_need_many_frames(check):
    check({"_target_": f"{__name__}.Long"})


@pytest.mark.parametrize(("frontend_name", "backend_name"), PAIRS)
def test_every_pair(frontend_name, backend_name):
    few_filters = spec("frontend", frontend_name) | {"filter_multiplier": SMALL_MULTIPLIER}
    testing.check_pair(few_filters, with_few_units(spec("backend", backend_name)))


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in CLASSES.items() for name in names])
def test_a_class_has_one_file_with_all_its_settings(group, name):
    contract = {"frontend": FrontEnd, "backend": BackEnd}[group]
    content = spec(group, name)
    assert [other for other in CLASSES[group] if spec(group, other)["_target_"] == content["_target_"]] == [name]
    cls = find_class(content["_target_"], contract)
    assert set(content) - {"_target_"} == set(settings(cls)) - {"in_channels", "in_frames", "num_tags"}
    cited = cls.__doc__ or ""
    assert "paper" in cited or any(year in cited for year in ("2014", "2016", "2017", "2018", "2019", "2020"))


@pytest.mark.parametrize(("group", "names"), [("frontend", FRONTENDS), ("backend", BACKENDS)])
def test_the_parts_of_every_model_are_among_those_that_are_tested(group, names):
    tested = [spec(group, name) for name in names]
    assert all(preset(model)[group] in tested for model in PRESETS)
    assert all(tested.count(content) == 1 for content in tested)


@pytest.mark.parametrize("name", FRONTENDS)
def test_a_front_end_says_what_it_is(name):
    with torch.device("meta"):
        frontend = build_frontend(name)
    assert frontend.family in FAMILIES
    assert bool(re.fullmatch(r"\d+ (mel|notes × \d+)", frontend.describe_input())) == (frontend.family == "spectrogram")
    assert frontend.family == "spectrogram" or frontend.describe_input() == "waveform"


@pytest.mark.parametrize(
    ("group", "name", "changes", "message"),
    [
        (
            "frontend",
            "spectrogram",
            {"n_fft": 2**16, "num_mels": 4096},
            "make 134,221,824 constants; at most 16,777,216",
        ),
        ("frontend", "spectrogram", {"n_fft": 2, "num_mels": 2**17}, "of 65,536 bands, are allowed"),
        ("frontend", "harmonic", {"n_fft": 2**16, "num_harmonics": 10}, "constants; at most 16,777,216"),
        ("backend", "recurrent", {"num_layers": 1001}, "num_layers=1001 must lie between 1 and 1,000"),
        ("backend", "self_attention", {"num_layers": 1001}, "num_layers=1001 must lie between 1 and 1,000"),
    ],
)
def test_parts_refuse_what_exceeds_memory(group, name, changes, message):
    contract = {"frontend": FrontEnd, "backend": BackEnd}[group]
    sizes = {"in_channels": 8, "in_frames": 8, "num_tags": 2} if group == "backend" else {}
    with pytest.raises(MusictagError, match=message):
        build(spec(group, name) | changes, contract, **sizes)
