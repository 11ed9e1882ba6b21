"""Each evaluation scores with the weights of its moment, on the inference form of the network."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from musictag.models.inference_form import InferenceForm
from musictag.training.losses import BCE
from musictag.training.module import TaggingModule
from tests.helpers.embeddings import make_network
from tests.helpers.models import make_small_network


@pytest.mark.parametrize(
    ("model", "freeze", "expected"),
    [
        ("fcn", None, True),
        ("waveform_small", None, False),
        ("samplecnn", None, False),
        ("samplecnn", "frontend", False),
    ],
)
def test_one_patch_is_enough_for_batch_norms_over_time(model: str, freeze: str | None, expected: bool) -> None:
    module = TaggingModule(make_small_network(model).spec, loss=BCE(), optimizer=torch.optim.Adam, freeze=freeze)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert module.trains_on_one_patch() is expected
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("compiled", [False, True])
def test_each_evaluation_has_a_form_of_its_own(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network()
    module = TaggingModule(network.spec, loss=BCE(), optimizer=torch.optim.Adam)
    module._compiled = compiled
    data = SimpleNamespace(song_ids=lambda split: ["a", "b"], tags=network.tags, features=None)
    module._trainer = SimpleNamespace(world_size=1, datamodule=data)
    made: list[InferenceForm] = []
    whole = InferenceForm.forward
    monkeypatch.setattr(InferenceForm, "forward", lambda form, audio: (made.append(form), whole(form, audio))[1])
    audio = (3000 * torch.randn(4, network.input_samples)).to(torch.int16)
    song = torch.tensor([0, 1, 1, 0])
    states = [make_network().state_dict(), {key: value * 0.5 for key, value in make_network().state_dict().items()}]
    for state in states:
        module.tagger.load_state_dict(state)
        module.eval()
        names = set(module.state_dict())
        module._start_evaluation("validation")
        with torch.inference_mode():
            module.validation_step({"audio": audio[:3], "song": song[:3]}, 0)
            module.validation_step({"audio": audio[3:], "song": song[3:]}, 1)
            patches = module.tagger.probabilities(module.tagger(audio.float() / 32768))
        expected = torch.stack([patches[song == number].mean(0) for number in range(2)])
        torch.testing.assert_close(module.song_average.compute(), expected, atol=1e-5, rtol=0)
        assert {name for name in module.state_dict() if name.startswith("tagger.")} == names  # no second copy
    assert len({id(form) for form in made}) == (0 if compiled else 2)
