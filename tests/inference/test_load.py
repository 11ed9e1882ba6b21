"""Taggers in files: written, loaded, refused where damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

import musictag
from musictag.common.errors import MusictagError
from musictag.inference.load import load, load_network
from musictag.inference.network_tagger import NetworkTagger
from musictag.models.checkpoint import read_tagger, store_tagger, write_tagger
from tests.inference.test_tagger import BACKEND, CONF, FRONTEND, RATE, TAGS, make_network, make_song, save


def test_a_loaded_tagger_scores_the_same(tmp_path):
    network = make_network(
        frontend={"_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated", "num_filters": 1}
    )
    network.fit_normalisation([torch.from_numpy(make_song(1.0).T)])
    source = (make_song(1.0, seed=1), RATE)
    again = musictag.load(str(save(tmp_path / "tagger.safetensors", network)))
    assert isinstance(again, musictag.Tagger)
    assert not again.network.training
    assert again.network.spec == network.spec
    assert again.tag(source) == NetworkTagger(network).tag(source)
    assert musictag.load(tmp_path).tag(source) == again.tag(source)  # the folder of a run


def test_the_file_says_what_it_is_to_whoever_reads_safetensors(tmp_path):
    write_tagger(tmp_path / "x.safetensors", make_network(), epoch=3, validation={"val_loss": 0.5})
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        description = json.loads(file.metadata()["musictag"])
        assert set(file.keys()) == set(make_network().state_dict())
    assert description == {
        "format": 1,
        **make_network().spec,
        "sample_rate": RATE,
        "epoch": 3,
        "validation": {"val_loss": 0.5},
        "versions": {"musictag": musictag.__version__, "torch": version("torch")},
    }


def test_weights_that_share_memory_are_written(tmp_path):
    network = make_network()
    network.backend.norm1.bias = network.backend.norm1.weight
    save(tmp_path / "x.safetensors", network)
    loaded = load_network(tmp_path / "x.safetensors").backend.norm1
    assert torch.equal(loaded.bias, network.backend.norm1.weight)


def test_files_that_are_no_tagger(tmp_path):
    with pytest.raises(MusictagError, match="there is no tagger"):
        load(tmp_path / "tagger.safetensors")
    with pytest.raises(MusictagError, match="is a folder without a tagger"):
        load(tmp_path)
    torch.save(make_network().state_dict(), tmp_path / "torch")
    for name, content, message in (
        ("empty", b"", "fewer than eight bytes"),
        ("text", b"hello, world", "not a safetensors file, or its header is too long"),
        ("zip", b"PK\x05\x06" + bytes(18), "PyTorch checkpoint"),
        ("torch", (tmp_path / "torch").read_bytes(), r"PyTorch checkpoint.*the tagger\.safetensors in its folder"),
        ("pickle", b"\x80\x02K\x01......", "not a safetensors file"),
        ("json", b'{"what": 1}', "model of a baseline, which has no network"),
        ("strange", safetensors.torch.save({"x": torch.zeros(2)}), "was not written by musictag"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MusictagError, match="is not a tagger of musictag, or is damaged: .*" + message) as refused:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)


def test_damaged_taggers_are_refused(tmp_path):
    whole = save(tmp_path / "tagger.safetensors", make_network()).read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.safetensors").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(MusictagError, match="damaged"):
            load(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("where", ["weights", "description"])
def test_a_flipped_bit_is_noticed(tmp_path, where):
    network = make_network()
    content = bytearray(save(tmp_path / "tagger.safetensors", network).read_bytes())
    if where == "weights":
        content[content.find(network.backend.conv1.weight.detach().numpy().tobytes()) + 101] ^= 0x40
    else:
        content[content.find(b"violin")] ^= 0x01
    (tmp_path / "tagger.safetensors").write_bytes(content)
    with pytest.raises(MusictagError, match="checksum"):
        load(tmp_path / "tagger.safetensors")


def test_specs_and_weights_that_do_not_belong_together(tmp_path):
    network = make_network()
    path = tmp_path / "tagger.safetensors"
    state = network.state_dict()
    lacking = {name: value for name, value in state.items() if not name.endswith("output.bias")}
    cases = [
        ({"format": None}, "does not declare its format"),
        ({"format": 2}, "it has format 2, but this version of musictag reads format 1"),
        ({"frontend": "waveform"}, "does not consist of dictionaries"),
        ({"frontend": FRONTEND | {"_target_": "os.system"}}, "classes of musictag"),
        ({"frontend": FRONTEND | {"_target_": 7}}, "dotted name of a class"),
        ({"tags": TAGS[:3]}, r"output\.bias is \(4,\), not \(3,\)"),
        ({"backend": BACKEND | {"filters": 10**9}}, "no such setting is larger"),
        ({"backend": BACKEND | {"filters": -8}}, "cannot be built"),
        ({"tags": 7}, "at least one tag"),
        ({"patch_seconds": float("nan")}, "is not a length"),
        ({"state": lacking}, r"output\.bias is missing"),
        ({"state": state | {"third": torch.zeros(1)}}, "'third' is not known"),
        ({"state": state | {"backend.output.bias": torch.zeros(4).half()}}, "output.bias is torch.float16, not"),
        ({"state": state | {"backend.output.bias": torch.zeros(4, dtype=torch.complex64)}}, "is torch.complex64, not"),
        ({"state": {}}, "and [0-9]+ more"),
    ]
    for changes, message in cases:
        save(path, network, **changes)
        with pytest.raises(MusictagError, match=message) as refused:
            load(path)
        assert str(path) in str(refused.value)
    save(path, network)
    stored = read_tagger(path)
    del stored.description["tags"]
    store_tagger(path, stored.description, stored.state)
    with pytest.raises(MusictagError, match="its description lacks tags"):
        load(path)


def test_device_that_is_not_there(tmp_path):
    with pytest.raises(MusictagError, match="device=cuda:99"):
        load(save(tmp_path / "tagger.safetensors", make_network()), device="cuda:99")


def test_importing_and_loading_needs_no_trainer(tmp_path):
    path = save(tmp_path / "tagger.safetensors", make_network())
    program = (
        "import sys, musictag\n"
        "assert musictag.__version__ and 'torch' not in sys.modules and musictag.MusictagError\n"
        f"assert musictag.load({str(path)!r}).tag_names[0] == 'violin'\n"
        "print([m for m in ('pytorch_lightning', 'lightning', 'hydra', 'omegaconf', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CONF.parent)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_public_names_are_all_there():
    assert set(musictag.__all__) == set(dir(musictag))
    for name in musictag.__all__:
        assert getattr(musictag, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Taggers'"):
        musictag.Taggers  # noqa: B018
