"""Encoders of the library transformers as front-ends: HuBERT and wav2vec2 (MERT), AST, CLAP, Whisper.

Legend: B patches, N samples, S tokens, C channels, T frames.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.common.processes import rank_zero_say
from musictag.common.text import excerpt, parse_json, reason
from musictag.models.frontends import encoder_inputs as inputs
from musictag.models.frontends.encoder import UNKNOWN_LICENCE, EncoderFrontEnd
from musictag.models.pretrained.folders import files_digest, licence_in, local_folder

#: The package under which transformers imports code that came with a model, which ``musictag.load`` has to trust.
REMOTE_CODE = "transformers_modules"
_MAX_LAYERS = 1_000
#: Of every configuration, but without meaning for an encoder here.
_GENERAL = {
    "_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "transformers_version", "num_feat_extract_layers",
}  # fmt: skip
#: Random in training: layers left out, which a mix would lack, and masks drawn by numpy, which resuming does not seed.
_WITHOUT_RANDOM = {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}


#: The models that a file may name, by the ``model_type`` of their configuration: the class of transformers that is the
#: encoder, and its input.
FAMILIES: dict[str, tuple[str, type[inputs.EncoderInput]]] = {
    "hubert": ("HubertModel", inputs.Waveform),
    "wav2vec2": ("Wav2Vec2Model", inputs.Waveform),
    "data2vec-audio": ("Data2VecAudioModel", inputs.Waveform),
    "audio-spectrogram-transformer": ("ASTModel", inputs.Kaldi),
    "clap": ("ClapAudioModel", inputs.Clap),
    "clap_audio_model": ("ClapAudioModel", inputs.Clap),
    "whisper": ("models.whisper.modeling_whisper.WhisperEncoder", inputs.Whisper),
}
_OWN_CODE = ("AutoModel", inputs.Waveform)


class HuggingFace(EncoderFrontEnd):
    """The encoder in a folder as transformers saves it, or of that name on the model hub.

    MERT (Li et al. 2023) and music2vec are relatives of wav2vec2 (Baevski et al. 2020) and HuBERT (Hsu et al. 2021);
    AST is of Gong et al. 2021, CLAP of Wu et al. 2023, Whisper of Radford et al. 2022. ``layers`` chooses hidden
    states: 0 is what the first block hears, -1 the encoder's output. Several, or ``mix`` (all), are mixed with learned
    weights, the softmax of as many numbers, which start equal. Encoders with a window of fixed length hear longer
    patches window by window. Raises MusictagError for other kinds of models, and for layers that do not exist.
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
        super().__init__(encoder, filter_multiplier, sample_rate)
        # the target is what musictag.load compares with its trust, before anything is built
        trusted = trust_remote_code and str(encoder.get("_target_")).startswith(f"{REMOTE_CODE}.")
        self.code = encoder["code"] if trusted else None
        self.model, kind = _OWN_CODE if self.code else _family(encoder["model_type"])
        self.config = _own_config(self.code) if self.code else _config(self.model, encoder["config"])
        cls, config = _named(self.model), copy.deepcopy(self.config)
        self.encoder = cls.from_config(config, trust_remote_code=True) if self.code else cls(config)
        self.input = kind(self.config, encoder["features"])
        self.family, self.encoder_hop = self.input.family, self.input.hop_samples
        is_clap = kind is inputs.Clap
        self.layers = _layers(layers, 0 if is_clap else len(self.trainable_blocks()))
        if not is_clap and not self.code:
            self._drop_blocks()
        self.out_channels = self.encoder.audio_encoder.num_features if is_clap else self.config.hidden_size
        if len(self.layers) > 1:
            self.mix = nn.Parameter(torch.zeros(len(self.layers)))
        if is_clap:
            self.encoder.audio_encoder.batch_norm.momentum = norm_momentum
            for key, parameter in self.encoder.named_parameters():
                # for what is longer than a window, and heard window by window here
                parameter.requires_grad_(not re.search("fusion_model|mel_conv2d", key))

    def _drop_blocks(self) -> None:
        """Leave out what only later states than the chosen ones need."""
        blocks = self.encoder.get_submodule(self.input.blocks)
        if self.layers[-1] == len(blocks):
            return
        del blocks[self.layers[-1] :]
        if not isinstance(self.input, inputs.Waveform) or getattr(self.config, "do_stable_layer_norm", False):
            self.encoder.set_submodule(self.input.norm, nn.Identity())

    @classmethod
    def describe(cls, name: str, trust_remote_code: bool = False, **_: Any) -> dict[str, Any]:
        """With ``model_type``, ``config`` and ``features`` of the encoder, ``name``, and ``files``, a digest of all."""
        folder = local_folder(str(name), trust_remote_code)
        with _refusals(f"frontend.name={name}: its config.json"):
            content = dict(parse_json((folder / "config.json").read_bytes()))
        # these have a class of their own, whose code is not needed
        is_hubert = content.get("model_type") == "mert_model" and not _beyond_hubert(content)
        kind = "hubert" if is_hubert else content.get("model_type")
        about = {"name": Path(name).name, "licence": licence_in(folder) or UNKNOWN_LICENCE, "model_type": kind}
        if kind in FAMILIES:
            content = content.get("audio_config") or {} if kind == "clap" else content
            known = _known(FAMILIES[kind][0])
            about["config"] = {key: value for key, value in content.items() if key in known}
        elif trust_remote_code:
            rank_zero_say(f"frontend.trust_remote_code=true: the code that came with {name} runs now")
            about |= {"_target_": f"{REMOTE_CODE}.Model", "code": str(name)}
        elif "auto_map" in content:
            raise MusictagError(
                f"frontend.name={name} brings code of its own, which runs only with frontend.trust_remote_code=true"
            )
        _, heard = FAMILIES.get(kind, _OWN_CODE) if trust_remote_code else _family(kind, f"frontend.name={name}: ")
        with _refusals(f"frontend.name={name}: its feature extraction (preprocessor_config.json)"):
            features = _named(heard.extractor).from_pretrained(folder, local_files_only=True).to_dict()
            about |= {"features": {key: features[key] for key in heard.keys}, "rate": features["sampling_rate"]}
        return about | {"files": files_digest(folder)}

    def load(self, name: str) -> None:
        wanted = self.encoder.state_dict()
        with _refusals(f"frontend.name={name}: its weights"):
            model, found = _named(self.model).from_pretrained(
                local_folder(name, bool(self.code)), config=self.config, dtype=torch.float32, output_loading_info=True,
                ignore_mismatched_sizes=True, local_files_only=True, trust_remote_code=bool(self.code),
                key_mapping={self.input.prefix: ""} if self.input.prefix else None,
            )  # fmt: skip
        # the library draws these at random, and says so in a warning at most
        new = {*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])}
        if missing := sorted(new & wanted.keys()):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise MusictagError(
                f"frontend.name={name} has not all weights of {type(self.encoder).__name__}: {', '.join(missing[:3])}"
                f"{more} missing or of another size, of {len(wanted)}; it is partial, or of another model"
            )
        weights = model.state_dict()
        self.encoder.load_state_dict({key: weights[key] for key in wanted})

    def trainable_blocks(self) -> list[nn.Module]:
        return list(self.encoder.get_submodule(self.input.blocks))

    def describe_input(self) -> str:
        return f"{self.input.num_mels} mel" if self.input.num_mels else "waveform"

    def encoder_frames(self, num_samples: int) -> int:
        return self.input.num_frames(num_samples)

    def encode(self, waveform: Tensor) -> Tensor:
        window, step = self.input.window_samples, self.input.step_samples
        if window is None:
            return self._encode(waveform)
        frames = self.input.num_frames(waveform.shape[1])
        starts = range(0, -(-frames // self.input.window_frames) * step, step)
        return torch.cat([self._encode(waveform[:, start : start + window]) for start in starts], 2)[..., :frames]

    def _encode(self, waveform: Tensor) -> Tensor:
        given = self.input(waveform)
        several = len(self.layers) > 1 or bool(self.code)
        out = self.encoder(given, **self.input.arguments(given), output_hidden_states=several)
        if not several:
            return self.input.sequence(out.last_hidden_state)
        states = [*out.hidden_states[:-1], out.last_hidden_state]
        weights = self.mix.softmax(0) if len(self.layers) > 1 else [1]
        return self.input.sequence(sum(w * states[n] for w, n in zip(weights, self.layers, strict=True)))


def _layers(layers: Any, num_blocks: int) -> list[int]:
    """The chosen hidden states, counted from 0, in ascending order; raises MusictagError for others."""
    chosen = [*range(num_blocks + 1)] if layers == "mix" else [layers] if isinstance(layers, int | str) else [*layers]
    if not num_blocks and chosen != [-1]:
        raise MusictagError(f"frontend.layers={layers}: this encoder's stages have different sizes; use -1, its output")
    if not chosen or not all(isinstance(n, int) and -num_blocks - 1 <= n <= num_blocks for n in chosen):
        raise MusictagError(
            f"frontend.layers={layers}: this encoder has the hidden states 0 to {num_blocks}, or from the last, "
            f"-1 to {-num_blocks - 1}; use one, a list of them, or mix"
        )
    return sorted({n % (num_blocks + 1) for n in chosen})


def _family(kind: Any, where: str = "") -> tuple[str, type[inputs.EncoderInput]]:
    if kind not in FAMILIES:
        raise MusictagError(f"{where}the encoder's model type {excerpt(kind)} is not one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _known(model: str) -> set[str]:
    """The settings of an encoder. Others may make the library load code or weights from elsewhere."""
    return set(_named(model).config_class().to_dict()) - _GENERAL


def _config(model: str, given: Mapping[str, Any]) -> Any:
    """The configuration of an encoder from plain values, which may be untrusted."""
    cls, known = _named(model).config_class, _known(model)
    if unknown := sorted(given.keys() - known):
        raise MusictagError(f"{excerpt(unknown[0])} is not a setting of {cls.__name__}")
    without = {key: value for key, value in _WITHOUT_RANDOM.items() if key in known}
    config = cls(**copy.deepcopy(dict(given)) | without)
    for layers in (config.num_hidden_layers, *getattr(config, "depths", ())):
        if not 0 <= layers <= _MAX_LAYERS:
            raise MusictagError(f"the encoder's number of layers, {layers}, must lie between 0 and {_MAX_LAYERS:,}")
    return config


def _beyond_hubert(content: Mapping[str, Any]) -> bool:
    """Whether a MERT is more than a HuBERT: with a constant-Q transform, deep norm or relaxed attention."""
    more = content.get("feature_extractor_cqt") or content.get("deepnorm")
    return bool(more) or content.get("attention_relax", -1) > 0


def _own_config(name: str) -> Any:
    """The configuration of a model that brings its own code, which runs."""
    with _refusals(f"frontend.name={name}: its own code"):
        config = _named("AutoConfig").from_pretrained(local_folder(name, True), trust_remote_code=True)
    vars(config).update(_WITHOUT_RANDOM)
    return config


def _named(name: str) -> Any:
    """A class of transformers, which is imported when first needed."""
    try:
        import transformers
    except ImportError as error:
        raise MusictagError("frontend=huggingface needs transformers: pip install 'musictag[encoders]'") from error
    return attrgetter(name)(transformers)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """With all errors of the library as MusictagError, without its bars and warnings: what they say is checked here."""
    log = _named("utils.logging")
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error(), log.disable_progress_bar()
    try:
        yield
    except MusictagError:
        raise
    except Exception as error:  # damaged files make it raise nearly anything
        raise MusictagError(f"{what} cannot be used: {reason(error)}") from error
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()
