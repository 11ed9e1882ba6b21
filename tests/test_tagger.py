"""The Tagger: made from plain dictionaries, tagging audio of any length, loaded without surprises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from musictag.tagger import Tagger, load

import musictag
from musictag.audio import read_song
from musictag.errors import MusictagError, SongError

CONF = Path(__file__).parent.parent / "conf"
RATE = 16000
TAGS = [{"name": name, "kind": "classification"} for name in ("violin", "drums", "reel")]
TAGS.append({"name": "tempo", "kind": "regression"})
FRONTEND = {"_target_": "musictag.frontends.waveform.SampleLevel", "channels": [8, 8, 8, 8, 8]}
BACKEND = {"_target_": "musictag.backends.residual.Residual", "filters": 8, "dense_units": 8}


def make_tagger(**changes) -> Tagger:
    torch.manual_seed(0)
    return Tagger(**({"frontend": FRONTEND, "backend": BACKEND, "tags": TAGS, "patch_seconds": 0.5} | changes))


def make_song(seconds: float, seed: int = 0, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """Noise whose loudness changes, so that patches differ: float32 N×channels."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    return (rng.standard_normal((n, channels)) * np.linspace(0.02, 0.3, n)[:, None]).astype(np.float32)


def save(path: Path, tagger: Tagger, **changes) -> Path:
    """A checkpoint as Lightning lays it out."""
    checkpoint = {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": {"tagger": tagger.spec, "objective": "bce", "learning_rate": 0.001},
        "state_dict": {f"tagger.{name}": value for name, value in tagger.state_dict().items()},
    }
    torch.save(checkpoint | changes, path)
    return path


def spec_of(tagger: Tagger, **changes) -> dict:
    return {"tagger": tagger.spec | changes}


# making one


def test_what_it_says_about_itself():
    tagger = make_tagger()
    assert tagger.tag_names == ("violin", "drums", "reel", "tempo")
    assert tagger.tag_kinds == ("classification",) * 3 + ("regression",)
    assert tagger.tags == TAGS
    assert (tagger.sample_rate, tagger.patch_samples, tagger.patch_seconds) == (RATE, 8000, 0.5)
    assert tagger(torch.zeros(2, tagger.min_samples)).shape == (2, 4)
    with pytest.raises(RuntimeError):
        tagger.eval()(torch.zeros(2, tagger.min_samples - 1))


@pytest.mark.parametrize("frontend", ["waveform", "spectrogram_small"])
@torch.inference_mode()
def test_spec_makes_the_same_network_again(frontend):
    tagger = make_tagger(
        frontend=yaml.safe_load((CONF / "frontend" / f"{frontend}.yaml").read_text()),
        backend=yaml.safe_load((CONF / "backend" / "residual_small.yaml").read_text()),
        patch_seconds=1.5,
    )
    tagger.fit_normalisation([torch.from_numpy(make_song(2).T)])
    again = Tagger(**tagger.spec)
    assert again.spec == tagger.spec
    again.load_state_dict(tagger.state_dict())
    waveform = torch.from_numpy(make_song(1.5, channels=2).T.copy())
    torch.testing.assert_close(again.eval()(waveform), tagger.eval()(waveform))
    # the spec is a copy: nobody can change a network from outside
    tagger.spec["tags"].clear()
    assert len(tagger.spec["tags"]) == 4


def test_too_short_patches_are_refused_with_the_length_to_type():
    for patch_seconds in (0.01, 0.1):
        with pytest.raises(MusictagError, match="too short: ") as refused:
            make_tagger(patch_seconds=patch_seconds)
        advice = float(str(refused.value).rpartition("data.patch_seconds=")[2].split()[0])
        tagger = make_tagger(patch_seconds=advice)
        assert tagger.min_samples <= tagger.patch_samples <= tagger.min_samples + 2
        assert f"takes {tagger.min_samples} samples" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": []}, "at least one tag"),
        ({"tags": [{"name": "a"}, {"name": "a"}]}, "twice: a"),
        ({"tags": [{"name": "a", "kind": "ordinal"}]}, "classification, regression"),
        ({"tags": ["a"]}, "name and a kind"),
        ({"patch_seconds": 0}, "no length"),
        ({"patch_seconds": float("nan")}, "no length"),
        ({"patch_seconds": "3"}, "no length"),
        ({"frontend": FRONTEND | {"channels": torch.tensor([8])}}, r"frontend\.channels is a Tensor"),
        ({"frontend": BACKEND}, "not a FrontEnd"),
        ({"backend": BACKEND | {"filter": 3}}, "no setting filter"),
        ({"frontend": FRONTEND | {"_target_": "os.system"}}, "inside musictag"),
    ],
)
def test_what_cannot_be_built(changes, message):
    with pytest.raises(MusictagError, match=message):
        make_tagger(**changes)


def test_probabilities_are_float32_under_autocast():
    logits = torch.tensor([[-20.0, 0.0, 9.0, 12.0]], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        probabilities = make_tagger().probabilities(logits)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, 1 / (1 + torch.exp(-logits.float())))
    assert probabilities[0, 2] < probabilities[0, 3] < 1  # both would be 1 in bfloat16


# tagging


def test_song_score_is_the_mean_over_patches_with_the_last_aligned_to_the_end(tmp_path):
    tagger = make_tagger().eval()
    audio = make_song(1.7)
    soundfile.write(tmp_path / "song.wav", audio, RATE, subtype="PCM_16")
    samples = torch.from_numpy(read_song(tmp_path / "song.wav").astype(np.float32) / 32768)
    starts = (0, 8000, 16000, 27200 - 8000)
    with torch.inference_mode():
        patches = torch.stack([samples[start : start + 8000] for start in starts])
        expected = torch.sigmoid(tagger(patches)).mean(0)

    scores = tagger.tag(tmp_path / "song.wav")
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    np.testing.assert_allclose([scores[name] for name in tagger.tag_names], expected, atol=1e-6)
    assert tagger.tag((audio, RATE)) == pytest.approx(scores, abs=1e-4)  # libsndfile rounds to 16 bits its own way
    np.testing.assert_allclose(tagger.predict_song(read_song(tmp_path / "song.wav")), expected, atol=1e-6)


def test_top_and_threshold():
    tagger, source = make_tagger(), (make_song(1.0), RATE)
    scores = tagger.tag(source)
    assert list(tagger.tag(source, top=2).items()) == list(scores.items())[:2]
    assert tagger.tag(source, top=99) == scores
    second = list(scores.values())[1]
    assert list(tagger.tag(source, threshold=second)) == list(scores)[:2]
    assert tagger.tag(source, threshold=1.1) == {}
    with pytest.raises(MusictagError, match="at least 1"):
        tagger.tag(source, top=0)


def test_taggram_rows_are_patches_and_its_mean_is_the_song():
    tagger = make_tagger()
    source = (make_song(2.2), RATE)
    taggram = tagger.taggram(source)
    np.testing.assert_allclose(taggram.times, [0, 0.5, 1.0, 1.5, 1.7])
    assert taggram.tags == tagger.tag_names
    assert taggram.scores.shape == (5, 4)
    assert taggram.scores.dtype == np.float32
    assert np.ptp(taggram.scores, axis=0).max() > 1e-3  # rows differ
    assert dict(zip(taggram.tags, taggram.scores.mean(0), strict=True)) == pytest.approx(tagger.tag(source), abs=1e-6)

    dense = tagger.taggram(source, hop_seconds=0.1)
    np.testing.assert_allclose(dense.times, np.arange(18) * 0.1)
    np.testing.assert_allclose(dense.scores[[0, 5, 10, 15, 17]], taggram.scores, atol=1e-5)
    for hop_seconds in (0, -1, float("nan"), 1e-9):
        with pytest.raises(MusictagError, match="hop_seconds"):
            tagger.taggram(source, hop_seconds=hop_seconds)


def test_long_songs_go_through_in_batches():
    tagger = make_tagger()
    batches = []
    tagger.frontend.register_forward_pre_hook(lambda _module, args: batches.append(len(args[0])))
    tagger.tag((make_song(70.0), RATE))
    assert batches == [128, 12]  # 64 s at once


@pytest.mark.parametrize("rate", [8000, 44100])
def test_any_rate_length_and_number_of_channels(rate, tmp_path):
    tagger = make_tagger()
    for seconds in (0.11, 0.5, 1.3):
        audio = make_song(seconds, channels=2, rate=rate)
        soundfile.write(tmp_path / "song.wav", audio, rate, subtype="FLOAT")
        scores = tagger.tag(tmp_path / "song.wav")
        assert set(scores) == set(tagger.tag_names)
        assert tagger.tag(str(tmp_path / "song.wav")) == scores
        assert tagger.tag((audio.T, rate)) == pytest.approx(scores, abs=1e-6)


def test_a_song_shorter_than_a_patch_is_repeated():
    tagger = make_tagger()
    short = make_song(0.2)
    assert tagger.tag((short, RATE)) == tagger.tag((np.concatenate([short, short, short[:1600]]), RATE))


def test_what_cannot_be_tagged(tmp_path):
    tagger = make_tagger()
    with pytest.raises(MusictagError, match=r"0\.050 s of audio are too short; 0\.1 s"):
        tagger.tag((make_song(0.05), RATE))
    broken = make_song(1.0)
    broken[100] = np.nan
    with pytest.raises(SongError, match="not finite"):
        tagger.tag((broken, RATE))
    with pytest.raises(SongError, match="not found"):
        tagger.tag(tmp_path / "nowhere.wav")
    with pytest.raises(MusictagError, match="cannot tag a ndarray"):
        tagger.tag(make_song(1.0))


def test_tagging_leaves_the_training_state_alone():
    tagger = make_tagger().train()
    tagger.frontend.eval()  # frozen, say
    running = tagger.backend.norm1.running_mean.clone()
    first = tagger.tag((make_song(1.0), RATE))
    assert tagger.tag((make_song(1.0), RATE)) == first  # no dropout
    assert (tagger.training, tagger.backend.training, tagger.backend.norm1.training) == (True, True, True)
    assert not any(layer.training for layer in tagger.frontend.modules())
    assert torch.equal(tagger.backend.norm1.running_mean, running)
    assert tagger(torch.zeros(2, 8000)).requires_grad


# loading


def test_a_loaded_tagger_scores_the_same(tmp_path):
    tagger = make_tagger(frontend={"_target_": "musictag.frontends.spectrogram.MusicallyMotivated", "num_filters": 1})
    tagger.fit_normalisation([torch.from_numpy(make_song(1.0).T)])
    source = (make_song(1.0, seed=1), RATE)
    again = musictag.load(str(save(tmp_path / "best.ckpt", tagger)))
    assert isinstance(again, musictag.Tagger)
    assert not again.training
    assert again.spec == tagger.spec
    assert again.tag(source) == tagger.tag(source)


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(MusictagError, match="there is no checkpoint"):
        load(tmp_path / "best.ckpt")
    with pytest.raises(MusictagError, match="is a folder"):
        load(tmp_path)
    for name, content in (
        ("empty", b""),
        ("text", b"hello"),
        ("zip", b"PK\x05\x06" + bytes(18)),
        ("pickle", b"\x80\x02K\x01."),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MusictagError, match=r"not a checkpoint of musictag|holds no tagger"):
            load(tmp_path / name)


def test_damaged_checkpoints_are_refused(tmp_path):
    whole = save(tmp_path / "best.ckpt", make_tagger()).read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(MusictagError, match="damaged"):
            load(tmp_path / "cut.ckpt")


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path):
    tagger = make_tagger()
    content = bytearray(save(tmp_path / "best.ckpt", tagger).read_bytes())
    content[content.find(tagger.backend.conv1.weight.detach().numpy().tobytes()) + 101] ^= 0x40
    (tmp_path / "best.ckpt").write_bytes(content)
    with pytest.raises(MusictagError, match="checksum"):
        load(tmp_path / "best.ckpt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_here",))

    save(tmp_path / "evil.ckpt", make_tagger(), extra=Evil())
    with pytest.raises(MusictagError, match="not a checkpoint"):
        load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "was_here").exists()


def test_specs_and_weights_that_do_not_belong_together(tmp_path):
    tagger = make_tagger()
    path = tmp_path / "best.ckpt"
    state = {f"tagger.{name}": value for name, value in tagger.state_dict().items()}
    lacking = {name: value for name, value in state.items() if not name.endswith("output.bias")}
    cases = [
        ({"hyper_parameters": {}}, "holds no tagger"),
        ({"hyper_parameters": None, "state_dict": None}, "holds no tagger"),
        ({"hyper_parameters": {"tagger": {"frontend": FRONTEND}}}, "does not know"),
        ({"hyper_parameters": spec_of(tagger, frontend=FRONTEND | {"_target_": "os.system"})}, "inside musictag"),
        ({"hyper_parameters": spec_of(tagger, tags=TAGS[:3])}, r"output\.bias is \(4,\), not \(3,\)"),
        (
            {"hyper_parameters": spec_of(tagger, backend=BACKEND | {"filters": 10**9})},
            "no such setting is larger",
        ),
        ({"hyper_parameters": spec_of(tagger, backend=BACKEND | {"filters": -8})}, "cannot be built"),
        ({"hyper_parameters": spec_of(tagger, tags=7)}, "at least one tag"),
        ({"state_dict": lacking}, r"output\.bias is missing"),
        ({"state_dict": state | {"tagger.third": torch.zeros(1)}}, "third is not known"),
        ({"state_dict": state | {"tagger.backend.output.bias": "text"}}, "output.bias is str"),
        ({"state_dict": {}}, "and [0-9]+ more"),
    ]
    for changes, message in cases:
        save(path, tagger, **changes)
        with pytest.raises(MusictagError, match=message) as refused:
            load(path)
        assert str(path) in str(refused.value)


def test_device_that_is_not_there(tmp_path):
    with pytest.raises(MusictagError, match="device=cuda:99"):
        load(save(tmp_path / "best.ckpt", make_tagger()), device="cuda:99")


def test_importing_and_loading_needs_no_trainer(tmp_path):
    path = save(tmp_path / "best.ckpt", make_tagger())
    program = (
        "import sys, musictag\n"
        "assert musictag.__version__ and 'torch' not in sys.modules\n"
        f"assert musictag.load({str(path)!r}).tag_names[0] == 'violin'\n"
        "print([m for m in ('pytorch_lightning', 'lightning', 'hydra', 'omegaconf', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CONF.parent)
    assert done.stdout.strip() == "[]", done.stderr
