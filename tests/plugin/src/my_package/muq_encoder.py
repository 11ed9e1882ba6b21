"""An encoder with a package of its own as a front-end. Legend: B patches, N samples, C channels, T frames."""

from __future__ import annotations

import dataclasses

from musictag.models.frontends.encoder import EncoderFrontEnd


class MuQ(EncoderFrontEnd):
    """MuQ (Zhu et al. 2025): 25 frames a second of audio at 24 kHz. Needs its package: pip install muq."""

    family = "spectrogram"
    encoder_hop = 960

    def __init__(self, name=None, encoder=None, filter_multiplier=1.0, norm_momentum=0.1, sample_rate=16000):
        super().__init__(encoder, filter_multiplier, sample_rate)
        from muq import MuQ, MuQConfig

        self.encoder = MuQ(MuQConfig(**encoder["config"]))
        self.out_channels = encoder["config"]["encoder_dim"]

    @classmethod
    def describe(cls, name, **settings):
        from muq import MuQ

        config = dataclasses.asdict(MuQ.from_pretrained(name).config)
        return {"config": config, "name": name, "rate": 24000, "licence": "cc-by-nc-4.0"}

    def load(self, name):
        self.encoder.load_state_dict(type(self.encoder).from_pretrained(name).state_dict())

    def encode(self, waveform):
        return self.encoder(waveform).last_hidden_state.transpose(1, 2)

    def encoder_frames(self, num_samples):
        return -(-(num_samples // 240) // 4) if num_samples > 1024 else 0
