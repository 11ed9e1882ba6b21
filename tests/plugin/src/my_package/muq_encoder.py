"""An encoder with a package of its own as a front-end. Legend: B patches, N samples, C channels, T frames."""

from __future__ import annotations

import dataclasses

import muq

from musictag.models.frontends.encoder import PackageEncoder


class MuQ(PackageEncoder):
    """MuQ (Zhu et al. 2025): 25 frames a second of audio at 24 kHz. Needs its package: pip install muq."""

    family, rate, encoder_hop, licence = "spectrogram", 24_000, 960, "cc-by-nc-4.0"

    @classmethod
    def published(cls, name):
        network = muq.MuQ.from_pretrained(name)
        return dataclasses.asdict(network.config), network.state_dict()

    def build(self, config):
        return muq.MuQ(muq.MuQConfig(**config)), config["encoder_dim"]

    def encode(self, waveform):
        return self.encoder(waveform).last_hidden_state.transpose(1, 2)

    def encoder_frames(self, num_samples):
        return -(-(num_samples // 240) // 4) if num_samples > 1024 else 0
