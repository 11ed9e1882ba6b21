"""Encoders of the library transformers as front-ends: HuBERT and wav2vec2 (MERT), AST, CLAP, Whisper.

Legend: B patches, N samples, S tokens, C channels, T frames.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.common.paths import expanded
from musictag.common.processes import rank_zero_say
from musictag.common.text import excerpt, parse_json, reason
from musictag.models.frontends import encoder_inputs as inputs
from musictag.models.frontends.encoder import UNKNOWN_LICENCE, EncoderFrontEnd
from musictag.models.pretrained.folders import files_digest, licence_in, local_folder

#: By which the file of a tagger names the package of code that came with a model: see musictag.load's ``trust``.
REMOTE_CODE = "transformers_modules"
_MAX_LAYERS = 1_000
#: Of every configuration, but without meaning for the encoder here.
_GENERAL = {
    "_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "transformers_version", "num_feat_extract_layers",
}  # fmt: skip
#: Random in training, by generators that a resumed run would not continue: layers left out, and masked tokens.
_WITHOUT_RANDOM = {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}


@dataclass(frozen=True)
class Family:
    """Classes of transformers by name. ``model`` is what a checkpoint holds, and the encoder is its attribute ``part``;
    ``blocks`` and ``norm`` (after the last block) are attributes of the encoder."""

    config: str
    model: str
    encoder: str
    extractor: str
    input: type[inputs.EncoderInput]
    blocks: str
    norm: str | None = None
    part: str = ""


_AST = Family("ASTConfig", "ASTModel", "ASTModel", "ASTFeatureExtractor", inputs.Kaldi, "layers", "layernorm")
_WHISPER = Family(
    "WhisperConfig", "WhisperModel", "models.whisper.modeling_whisper.WhisperEncoder", "WhisperFeatureExtractor",
    inputs.Whisper, "layers", "layer_norm", "encoder",
)  # fmt: skip


def _clap(config: str, model: str, part: str) -> Family:
    extractor = "ClapFeatureExtractor"
    return Family(config, model, "ClapAudioModel", extractor, inputs.Clap, "audio_encoder.layers", None, part)


def _wav2vec2(name: str) -> Family:
    return Family(
        f"{name}Config", f"{name}Model", f"{name}Model", "Wav2Vec2FeatureExtractor", inputs.Waveform, "encoder.layers"
    )


#: The models that a file may name, by the ``model_type`` of their configuration.
FAMILIES = {
    "hubert": _wav2vec2("Hubert"),
    "wav2vec2": _wav2vec2("Wav2Vec2"),
    "data2vec-audio": _wav2vec2("Data2VecAudio"),
    "audio-spectrogram-transformer": _AST,
    "clap": _clap("ClapAudioConfig", "ClapModel", "audio_model"),
    "clap_audio_model": _clap("ClapAudioConfig", "ClapAudioModel", ""),
    "whisper": _WHISPER,
}


class HuggingFace(EncoderFrontEnd):
    """The encoder in a folder as transformers saves it, or of that name on the model hub.

    MERT (Li et al. 2023) and music2vec are wav2vec2's relatives (Baevski et al. 2020, Hsu et al. 2021), AST is of Gong
    et al. 2021, CLAP of Wu et al. 2023, Whisper of Radford et al. 2022. ``layers`` chooses hidden states: 0 is what the
    first block hears, -1 the encoder's output; blocks after the last chosen one are left out. Several, or ``mix``
    (all), are mixed with learned weights, the softmax of as many numbers, which start equal. The feature extraction is
    that of the encoder's library. Encoders with a window of fixed length hear longer patches window by window.

    Code that comes with a model runs only with ``trust_remote_code``. Raises MusictagError for other kinds of models.
    """

    def __init__(
        self,
        name: str | None = None,
        layers: int | str | Sequence[int] = -1,
        encoder: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        filter_multiplier: float = 1.0,
        norm_momentum: float = 0.01,
        sample_rate: int = 16000,
    ):
        if not encoder:
            raise MusictagError("this front-end is built from the description of an encoder; use frontend.name=...")
        super().__init__(encoder, encoder["features"]["sampling_rate"], filter_multiplier, sample_rate)
        self.source = encoder["name"]
        self.code = (
            encoder.get("code") if trust_remote_code and str(encoder.get("_target_")).startswith(REMOTE_CODE) else None
        )
        if self.code:
            config, self.encoder = _with_own_code(self.code)
            self.family_of = _wav2vec2("Auto")
        else:
            self.family_of = _family(encoder["model_type"])
            config = _config(encoder)
            self.encoder = _named(self.family_of.encoder)(copy.deepcopy(config))
        self.config = config
        self.input = self.family_of.input(config, encoder["features"])
        self.family, self.encoder_hop = self.input.family, self.input.hop_samples
        is_clap = self.family_of.input is inputs.Clap
        num_blocks = 0 if is_clap else len(self._parts(self.family_of.blocks))
        self.layers = _layers(layers, num_blocks)
        self._drop_blocks(num_blocks)
        self.out_channels = self.encoder.audio_encoder.num_features if is_clap else config.hidden_size
        if len(self.layers) > 1:
            self.mix = nn.Parameter(torch.zeros(len(self.layers)))
        if is_clap:
            self.encoder.audio_encoder.batch_norm.momentum = norm_momentum
            for key, parameter in self.encoder.named_parameters():
                # of longer inputs than a window, which are heard window by window here
                parameter.requires_grad_(not re.search("fusion_model|mel_conv2d", key))

    def _parts(self, path: str) -> Any:
        try:
            return attrgetter(path)(self.encoder)
        except AttributeError as error:
            raise MusictagError(f"{self.source} is not a relative of wav2vec2: it has no {path}") from error

    def _drop_blocks(self, num_blocks: int) -> None:
        """Leave out what only later states than the chosen ones need."""
        last = self.layers[-1]
        if last == num_blocks or self.code:
            return
        blocks = self._parts(self.family_of.blocks)
        del blocks[last:]
        norm = "encoder.layer_norm" if getattr(self.config, "do_stable_layer_norm", False) else self.family_of.norm
        if norm:
            owner, _, attribute = norm.rpartition(".")
            setattr(self._parts(owner) if owner else self.encoder, attribute, nn.Identity())

    @classmethod
    def describe(cls, name: str, trust_remote_code: bool = False, **_: Any) -> dict[str, Any]:
        """``model_type``, ``config`` and ``features`` of the encoder, its ``name`` and ``licence``, and ``files``, a
        digest of its weights and settings."""
        folder = _folder(name, trust_remote_code)
        content = _read(folder / "config.json")
        kind = content.get("model_type")
        is_mert = kind == "mert_model" and not _beyond_hubert(content)
        about = {"name": Path(name).name, "licence": licence_in(folder) or UNKNOWN_LICENCE}
        about |= {"files": files_digest(folder)}
        if is_mert:  # with names of its own; its code is not needed
            content, kind = content | {"model_type": "hubert"}, "hubert"
        if kind not in FAMILIES:
            if not trust_remote_code:
                own = "brings code of its own, which runs only with frontend.trust_remote_code=true" if (
                    content.get("auto_map")
                ) else f"is not one of {', '.join(FAMILIES)}"  # fmt: skip
                raise MusictagError(f"frontend.name={name}: the model type {excerpt(kind)} {own}")
            rank_zero_say(f"frontend.trust_remote_code=true: the code that came with {name} runs now")
            about |= {"_target_": f"{REMOTE_CODE}.{content.get('architectures', ['Model'])[0]}", "code": str(name)}
        family = FAMILIES.get(kind, _wav2vec2("Auto"))
        if not about.get("code"):
            if kind == "clap":
                content = content.get("audio_config") or {}
            known = set(_named(family.config)().to_dict()) - _GENERAL
            about["config"] = {key: value for key, value in content.items() if key in known}
        with _refusals(f"frontend.name={name}: its feature extraction (preprocessor_config.json)"):
            features = _named(family.extractor).from_pretrained(folder, local_files_only=True).to_dict()
        return about | {"model_type": kind, "features": {key: features[key] for key in family.input.keys}}

    def load(self, name: str) -> None:
        folder = _folder(name, bool(self.code))
        config, wanted = self.config, self.encoder.state_dict()
        model = _named(self.family_of.model)
        if self.family_of.model == "ClapModel":
            config = _named("ClapConfig").from_pretrained(folder)
            config.audio_config = self.config
        with _quietly(), _refusals(f"frontend.name={name}: its weights"):
            full, found = model.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
                local_files_only=True, trust_remote_code=bool(self.code),
            )  # fmt: skip
        prefix = f"{self.family_of.part}." if self.family_of.part else ""
        # the library draws at random what is missing, and says so in a warning at most
        new = {*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])}
        if missing := sorted(key for key in wanted if prefix + key in new):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise MusictagError(
                f"frontend.name={name} has not all weights of {type(self.encoder).__name__}: {', '.join(missing[:3])}"
                f"{more} missing or of another size, of {len(wanted)}; it is partial, or of another model"
            )
        weights = (attrgetter(self.family_of.part)(full) if self.family_of.part else full).state_dict()
        self.encoder.load_state_dict({key: weights[key] for key in wanted})

    def blocks(self) -> list[nn.Module]:
        return list(self._parts(self.family_of.blocks))

    def describe_input(self) -> str:
        return f"{self.input.num_mels} mel" if self.input.num_mels else "waveform"

    def encoder_frames(self, num_samples: int) -> int:
        return self.input.num_frames(num_samples)

    def encode(self, waveform: Tensor) -> Tensor:
        if self.input.window_samples is None:
            return self._encode(waveform)
        frames = self.input.num_frames(waveform.shape[1])
        starts = range(0, -(-frames // self.input.window_frames) * self.input.step_samples, self.input.step_samples)
        windows = [self._encode(waveform[:, start : start + self.input.window_samples]) for start in starts]
        return torch.cat(windows, 2)[..., :frames]

    def _encode(self, waveform: Tensor) -> Tensor:
        given = self.input(waveform)
        several = len(self.layers) > 1 or bool(self.code)
        out = self.encoder(given, **self.input.arguments(given), output_hidden_states=several)
        if not several:
            return self.input.sequence(out.last_hidden_state)
        states = [*out.hidden_states[:-1], out.last_hidden_state]
        chosen = [states[layer] for layer in self.layers]
        if len(chosen) > 1:
            chosen = [weight * state for weight, state in zip(self.mix.softmax(0), chosen, strict=True)]
        return self.input.sequence(sum(chosen[1:], chosen[0]))


def _layers(layers: Any, num_blocks: int) -> list[int]:
    """The chosen hidden states, counted from 0, in ascending order; raises MusictagError for others."""
    listed = (
        list(range(num_blocks + 1)) if layers == "mix" else layers if isinstance(layers, list | tuple) else [layers]
    )
    if not num_blocks and layers not in (-1, [-1]):
        raise MusictagError(
            f"frontend.layers={layers}: the stages of this encoder have different sizes; use -1, the last"
        )
    if not listed or not all(isinstance(n, int) and -num_blocks - 1 <= n <= num_blocks for n in listed):
        raise MusictagError(
            f"frontend.layers={layers}: this encoder has the hidden states 0 to {num_blocks} (or -1, the last, to "
            f"{-num_blocks - 1}); use one, a list of them, or mix"
        )
    return sorted({n % (num_blocks + 1) for n in listed})


def _family(kind: Any) -> Family:
    if kind not in FAMILIES:
        raise MusictagError(f"the encoder's model type {excerpt(kind)} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _config(encoder: Mapping[str, Any]) -> Any:
    """The configuration of an encoder in plain values, which may be untrusted."""
    given, cls = encoder["config"], _named(_family(encoder["model_type"]).config)
    known = set(cls().to_dict()) - _GENERAL
    if unknown := sorted(given.keys() - known):
        raise MusictagError(f"{excerpt(unknown[0])} is not a setting of {cls.__name__}")
    # plain values still to be copied: the classes keep and change them
    config = cls(**copy.deepcopy(dict(given)) | {key: value for key, value in _WITHOUT_RANDOM.items() if key in known})
    for layers in (getattr(config, "num_hidden_layers", 0), *getattr(config, "depths", ())):
        if not 0 <= layers <= _MAX_LAYERS:
            raise MusictagError(f"the encoder's number of layers, {layers}, must lie between 0 and {_MAX_LAYERS:,}")
    return config


def _beyond_hubert(content: Mapping[str, Any]) -> bool:
    """Whether a MERT is more than a HuBERT: with a constant-Q transform, deep norm or relaxed attention."""
    return (
        bool(content.get("feature_extractor_cqt") or content.get("deepnorm")) or content.get("attention_relax", -1) > 0
    )


def _with_own_code(name: str) -> tuple[Any, nn.Module]:
    """Configuration and network of a model that brings its own code, which runs."""
    folder = _folder(name, True)
    with _quietly(), _refusals(f"frontend.name={name}: its own code"):
        config = _named("AutoConfig").from_pretrained(folder, trust_remote_code=True)
        for key, value in _WITHOUT_RANDOM.items():
            setattr(config, key, value)
        return config, _named("AutoModel").from_config(config, trust_remote_code=True)


def _folder(name: str, with_code: bool) -> Path:
    return local_folder(expanded(str(name), "frontend.name"), with_code)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it is not a dictionary")
        return content
    except (OSError, ValueError) as error:
        raise MusictagError(
            f"frontend.name={path.parent}: no {path.name} that can be read, which every encoder has ({reason(error)})"
        ) from error


def _named(name: str) -> Any:
    """A class of transformers, which is imported when first needed."""
    try:
        import transformers
    except ImportError as error:
        raise MusictagError("frontend=huggingface needs transformers: pip install 'musictag[encoders]'") from error
    return attrgetter(name)(transformers)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except MusictagError:
        raise
    except Exception as error:  # the library and damaged files raise various errors
        raise MusictagError(f"{what} cannot be used: {reason(error)}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' bars and warnings: what they say is checked here."""
    log = _named("utils.logging")
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error(), log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()
