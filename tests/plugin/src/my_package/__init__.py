"""Parts for musictag: envelopes of learnt filters, statistics over time, a focal loss, tones, a callback."""
