"""Augmentations: what each does to a patch, on which random numbers it depends, and when it is applied."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.data.random_draws import augmentation_draws, song_keys
from musictag.models.network import TaggingNetwork
from musictag.training.augmentations import (
    Augment,
    Augmentation,
    Equaliser,
    Gain,
    LogMelMixup,
    Masking,
    Mixup,
    Noise,
    Polarity,
    Shift,
)
from tests.helpers.experiments import compose_config

N = 4000
UNKNOWN = float("nan")


def waves(batch: int = 6) -> torch.Tensor:
    return torch.randn(batch, N, generator=torch.Generator().manual_seed(0)) / 4


def draws(part: Augmentation, batch: int = 6, epoch: int = 0) -> torch.Tensor:
    keys = song_keys(map(str, range(batch)))
    random = augmentation_draws("it", keys, np.zeros(batch, dtype=np.int64), 0, epoch, 1 + part.num_draws)
    return torch.from_numpy(part.prepared(random))


def test_the_numbers_of_a_patch_depend_on_nothing_else() -> None:
    keys, number = song_keys(["a", "b", "c"]), np.array([0, 0, 1])
    together = augmentation_draws("gain", keys, number, 7, 3, 5)
    assert together.shape == (3, 5)
    assert together.dtype == np.float32
    assert np.array_equal(augmentation_draws("gain", keys[1:], number[1:], 7, 3, 5), together[1:])
    others = [("shift", number, 7, 3), ("gain", number + 1, 7, 3), ("gain", number, 8, 3), ("gain", number, 7, 4)]
    for name, draw, seed, epoch in others:
        assert not np.isin(augmentation_draws(name, keys, draw, seed, epoch, 5), together).any()
    many = augmentation_draws("gain", song_keys(map(str, range(500))), np.zeros(500, dtype=int), 0, 0, 4)
    assert many.min() >= 0
    assert many.max() < 1
    assert many.mean(0) == pytest.approx([0.5] * 4, abs=0.05)


@pytest.mark.parametrize(
    "part", [Gain(), Polarity(), Shift(), Equaliser(), Noise(), Masking()], ids=lambda p: type(p).__name__
)
def test_a_patch_is_changed_alone_and_with_its_probability(part: Augmentation) -> None:
    """On one process or several, with whatever other patches."""
    values, random = waves(), draws(part)
    if part.of_spectrogram:
        values = values.view(6, 40, 100)
    together = part.applied(values, random)
    alone = torch.cat([part.applied(values[i : i + 1], random[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert torch.equal(part.applied(values, random), together)
    assert together.shape == values.shape
    assert together.dtype == torch.float32
    changed = [not torch.equal(one, other) for one, other in zip(together, values, strict=True)]
    assert changed == (random[:, 0] < part.probability).tolist()
    part.probability = 0.0
    assert torch.equal(part.applied(values, random), values)


def test_gain_polarity_and_shift() -> None:
    values = waves()
    decibels = 20 * torch.log10((Gain(6).changed(values, draws(Gain())[:, 1:]) / values).mean(1))
    assert decibels.abs().max() < 6
    assert decibels.min() < 0 < decibels.max()
    assert torch.equal(Polarity().changed(values, draws(Polarity())), -values)
    moved = Shift(0.25).changed(values, torch.tensor([[0.0], [0.5], [0.999999], [0.25], [0.5], [0.5]]))
    for row, by in enumerate((-1000, 0, 999, -500)):
        assert torch.equal(moved[row], values[row].roll(by)), row


def test_an_equaliser_has_a_gain_per_octave() -> None:
    """A tone an octave below half the sample rate, and one between that octave and the next lower one."""
    time = torch.arange(N) / N
    tones = torch.stack([torch.sin(2 * torch.pi * 1000 * time), torch.sin(2 * torch.pi * 1000 / 2**0.5 * time)])
    random = torch.full((2, 9), 0.5)  # 0 dB
    random[:, 7] = 1.0  # 6 dB; index 8 is half the sample rate
    levels = Equaliser(6).changed(tones, random).square().mean(1) / tones.square().mean(1)
    assert (10 * torch.log10(levels)).tolist() == pytest.approx([6, 3], abs=0.1)


def test_noise_has_the_level_that_is_drawn_and_silence_none() -> None:
    values = torch.cat([waves(2), torch.zeros(1, N)])
    part = Noise(10, 40)
    noise = part.changed(values, torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.5, 1.0], [0.3, 0.0, 0.0]])) - values
    level = 10 * torch.log10(values[:2].square().mean(1) / noise[:2].square().mean(1))
    assert level.tolist() == pytest.approx([10, 40], abs=0.01)
    assert torch.equal(noise[2], torch.zeros(N))
    power = torch.fft.rfft(noise).abs().square()
    white, pink = (band[1:1001].mean() / band[1001:].mean() for band in power[:2])
    assert white == pytest.approx(1, abs=0.2)
    assert pink > 3


def test_masks_cover_stretches_of_time_and_frequency() -> None:
    spectrogram = 10 + torch.randn(1, 20, 50, generator=torch.Generator().manual_seed(0))
    part = Masking(masks=1, frequency=0.5, time=0.2)
    # as high as possible, beginning at the lowest; half as wide, in the middle
    masked = part.changed(spectrogram, torch.tensor([[0.99, 0.0, 0.5, 0.5]]))[0]
    is_masked = masked == spectrogram.mean()
    assert is_masked[:10].all()
    assert is_masked[:, 23:28].all()
    assert is_masked[10:, :23].sum() == is_masked[10:, 28:].sum() == 0
    assert torch.equal(masked[~is_masked], spectrogram[0][~is_masked])
    # images of several channels, as of the harmonic front-end, are masked alike
    image = part.changed(torch.randn(3, 2, 20, 50), draws(part, 3)[:, 1:])
    channels = [image[:, i] == image.flatten(1).mode(1).values[:, None, None] for i in (0, 1)]
    assert torch.equal(*channels)
    assert channels[0].any()


@pytest.mark.parametrize("kind", [Mixup, LogMelMixup])
def test_mixup_mixes_targets_as_it_mixes_patches(kind: type[Mixup]) -> None:
    part = kind(alpha=0.4, probability=0.6)
    values, random = waves(), draws(part)
    targets = torch.tensor([[1.0, 0.0, UNKNOWN], [0.0, UNKNOWN, 0.0], [1.0, 1.0, 1.0]] * 2)
    mixed, mixed_targets = part.applied(values, random), part.applied(targets, random)
    chosen = (random[:, 0] < 0.6).tolist()
    assert 0 < sum(chosen) < 6
    for i, (is_chosen, share) in enumerate(zip(chosen, random[:, 1], strict=True)):
        share = share if is_chosen else 1.0
        assert 0.5 <= share <= 1
        before = i - 1
        torch.testing.assert_close(mixed[i], share * values[i] + (1 - share) * values[before])
        unknown = targets[i].isnan() | (targets[before].isnan() if is_chosen else False)
        expected = share * targets[i] + (1 - share) * targets[before].nan_to_num(0)
        torch.testing.assert_close(mixed_targets[i], torch.where(unknown, UNKNOWN, expected), equal_nan=True)


def test_shares_of_mixup_have_a_beta_distribution() -> None:
    """Of alpha = 1, uniform; the larger a share's alpha, the closer it is to a half."""
    shares = [draws(Mixup(alpha), 2000)[:, 1].mean().item() for alpha in (1.0, 8.0, 0.2)]
    assert shares == pytest.approx([0.75, 0.598, 0.897], abs=0.015)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gain(probability=1.5), "probability=1.5 must be from 0 to 1"),
        (lambda: Shift(share=0.6), "share=0.6 must be from 0 to 0.5"),
        (lambda: Noise(20, 10), "min_decibels=20 must be from -60 to 10"),
        (lambda: Masking(masks=0), "masks=0 must be from 1"),
        (lambda: Mixup(alpha=0), "alpha=0 must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, words: str) -> None:
    with pytest.raises(MusictagError, match=words):
        make()


def module_and_trainer(*overrides: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    """What the callback reads of a module and of a Trainer: network, songs, epoch."""
    config = compose_config(*overrides)
    tags = [{"name": name, "kind": "classification"} for name in "ab"]
    network = TaggingNetwork(config["frontend"], config["backend"], tags, config["data"]["patch_seconds"])
    network.fit_normalisation([torch.randn(2, 16000) / 4])
    songs = SimpleNamespace(song_ids=lambda split: np.array(["x", "y", "z", "w"]))
    return SimpleNamespace(tagger=network), SimpleNamespace(datamodule=songs, current_epoch=2)


def batch_of(*songs: int) -> dict[str, torch.Tensor]:
    audio = (torch.randn(4, 16000, generator=torch.Generator().manual_seed(1)) * 8000).to(torch.int16)
    row = torch.tensor(songs)
    return {"audio": audio[row], "target": torch.eye(4)[row, :2], "song": row, "draw": torch.zeros_like(row)}


def test_training_steps_alone_are_augmented_waveform_before_spectrogram() -> None:
    module, trainer = module_and_trainer("model=spectrogram_small", "frontend.num_filters=1")
    parts = {"masking": Masking(), "mixup": Mixup(), "gain": Gain(), "also_gain": Gain()}
    callback = Augment(parts, seed=5)
    callback.on_train_start(trainer, module)
    batch = batch_of(0, 1, 2, 3)
    plain = batch["audio"] / 32768
    callback.on_train_batch_start(trainer, module, batch, 0)
    keys, zeros = song_keys(["x", "y", "z", "w"]), np.zeros(4, dtype=np.int64)
    expected, target = plain, torch.eye(4)[:, :2]
    for name in ("also_gain", "gain", "mixup"):
        random = parts[name].prepared(augmentation_draws(name, keys, zeros, 5, 2, 1 + parts[name].num_draws))
        expected = parts[name].applied(expected, torch.from_numpy(random))
    target = parts["mixup"].applied(target, torch.from_numpy(random))
    assert torch.equal(batch["audio"], expected)
    assert torch.equal(batch["target"], target)
    module.tagger.eval()
    masked = module.tagger(batch["audio"])
    callback.on_train_batch_end(trainer, module)
    assert module.tagger.frontend.augment is None
    assert not torch.allclose(module.tagger(batch["audio"]), masked)


def test_a_share_of_a_batch_is_augmented_like_the_whole_batch() -> None:
    module, trainer = module_and_trainer("model=spectrogram_small", "frontend.num_filters=1")
    found = {}
    for songs in ((0, 1, 2, 3), (0, 2), (1, 3)):
        callback = Augment({"gain": Gain(), "noise": Noise(), "masking": Masking()}, seed=5)
        callback.on_train_start(trainer, module)
        batch = batch_of(*songs)
        callback.on_train_batch_start(trainer, module, batch, 0)
        masked = callback._augment(module.tagger.frontend.spectrogram(batch["audio"]))
        for song, *rest in zip(songs, batch["audio"], masked, strict=True):
            if song in found:
                for value, before in zip(rest, found[song], strict=True):
                    torch.testing.assert_close(value, before, rtol=1e-5, atol=1e-5)
            found[song] = rest


@pytest.mark.parametrize("model", ["harmonic", "musicnn", "vgg"])
def test_every_kind_of_spectrogram_is_masked(model: str) -> None:
    module, trainer = module_and_trainer(f"model={model}", "frontend.filter_multiplier=0.05")
    callback = Augment({"masking": Masking(frequency=1.0, time=1.0)}, seed=5)
    callback.on_train_start(trainer, module)
    frontend, batch = module.tagger.frontend.eval(), batch_of(0, 1)
    audio = torch.randn(2, 5 * 16000) / 4
    plain = frontend(audio)
    callback.on_train_batch_start(trainer, module, batch, 0)
    assert not torch.allclose(frontend(audio), plain)


def test_what_has_no_spectrogram_is_augmented_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    module, trainer = module_and_trainer("model=waveform_small")
    callback = Augment({"masking": Masking(), "mixup_log_mel": LogMelMixup(), "polarity": Polarity(1.0)}, seed=0)
    callback.on_train_start(trainer, module)
    assert "masking, mixup_log_mel: left out, as SampleLevel has no spectrogram" in capsys.readouterr().out
    batch = batch_of(0, 1)
    before = batch["audio"] / 32768, batch["target"]
    callback.on_train_batch_start(trainer, module, batch, 0)
    assert torch.equal(batch["audio"], -before[0])
    assert torch.equal(batch["target"], before[1])
    assert module.tagger.frontend.augment is None


def test_a_compiled_network_is_compiled_once_and_masked_in_every_step() -> None:
    module, trainer = module_and_trainer("model=spectrogram_small", "frontend.num_filters=1")
    callback = Augment({"masking": Masking(), "mixup_log_mel": LogMelMixup()}, seed=5)
    callback.on_train_start(trainer, module)
    graphs = []

    def keep(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    network = module.tagger.train()
    compiled = torch.compile(network, backend=keep, fullgraph=True)
    for trainer.current_epoch in range(3):
        batch = batch_of(0, 1, 2, 3)
        batch["audio"] = batch["audio"].repeat(1, 3)
        callback.on_train_batch_start(trainer, module, batch, 0)
        found = []
        for each in (compiled, network):
            torch.manual_seed(0)  # dropout
            found.append(each(batch["audio"]))
        callback.on_train_batch_end(trainer, module)
        torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)
    assert len(graphs) == 1
