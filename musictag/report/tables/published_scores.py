"""Published scores, and which of them may be shown next to a study's own: those on the same data and split.

Only numbers from a public source, or computed from public files, are included, each with its provenance. The split
alone makes a difference of six to seven points of PR-AUC on MagnaTagATune, so every number comes with its split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musictag.report.study import Run, Study


@dataclass(frozen=True)
class Published:
    """A score with the digits that were published, in [0, 1]; ``pr_auc`` is None if none was.

    ``data``: the name of the data set here. ``split``: as in the configuration, None if the source does not say.
    ``status``: seen (in the source), counted (computed from files of the source) or digest (in a public digest of the
    source, whose author states that he checked the paper).
    """

    model: str
    data: str
    split: str | None
    roc_auc: str
    pr_auc: str | None
    status: str
    source: str


_CLMR, _MUSICNN, _MULE = "README of CLMR", "README of musicnn", "result files of MULE (McCallum et al. 2022)"
_PONS = "Pons et al. 2018"
_ORIGINAL = ("magnatagatune", "original")
PUBLISHED = (
    Published("SampleCNN, as Pons et al. 2018 ran it", *_ORIGINAL, "0.886", "0.344", "seen", _CLMR),
    Published("Dieleman & Schrauwen, as Pons et al. 2018 ran it", *_ORIGINAL, "0.8558", "0.2959", "digest", _PONS),
    Published("VGG, as Pons et al. 2018 ran it", *_ORIGINAL, "0.8999", "0.3756", "digest", _PONS),
    Published("Timbre CNN, as Pons et al. 2018 ran it", *_ORIGINAL, "0.8907", "0.3492", "digest", _PONS),
    Published("Pons et al. 2018, waveform, twice the filters", *_ORIGINAL, "0.8896", "0.3474", "digest", _PONS),
    Published("Pons et al. 2018, waveform, 4 times the filters", *_ORIGINAL, "0.8905", "0.3492", "digest", _PONS),
    Published("Pons et al. 2018, spectrogram, half the filters", *_ORIGINAL, "0.9040", "0.3811", "digest", _PONS),
    Published("Pons et al. 2018, spectrogram, small back-end", *_ORIGINAL, "0.9028", "0.3755", "digest", _PONS),
    Published("musicnn with attention", *_ORIGINAL, "0.9077", "0.3861", "digest", "Pons & Serra 2019"),
    Published("musicnn", *_ORIGINAL, "0.9067", "0.3831", "seen", _MUSICNN),
    Published("VGG of musicnn", *_ORIGINAL, "0.9030", "0.3823", "seen", _MUSICNN),
    Published("CLMR, linear", *_ORIGINAL, "0.887", "0.356", "seen", _CLMR),
    Published("CLMR, MLP", *_ORIGINAL, "0.893", "0.360", "seen", _CLMR),
    Published("MULE", "magnatagatune", None, "0.9141", "0.4043", "counted", _MULE),
    Published("Musicset, supervised", "magnatagatune", None, "0.9171", "0.4127", "counted", _MULE),
    Published("Short-chunk CNN + Res", "magnatagatune", "clean", "0.9129", "0.4614", "seen", "Won et al. 2020"),
    Published("musicnn", "msd", "standard", "0.8802", "0.2891", "seen", _MUSICNN),
    Published("musicnn, big", "msd", "standard", "0.8841", "0.3003", "seen", _MUSICNN),
    Published("VGG of musicnn", "msd", "standard", "0.8768", "0.2819", "seen", _MUSICNN),
    Published("musicnn with attention", "msd", "standard", "0.8881", "0.3151", "digest", "Pons & Serra 2019"),
    Published("Pons et al. 2018, spectrogram", "msd", "standard", "0.8875", "0.3124", "digest", _PONS),
    Published("Pons et al. 2018, waveform", "msd", "standard", "0.8741", "0.2853", "digest", _PONS),
    Published("SampleCNN 2017", "msd", "standard", "0.8812", None, "digest", _PONS),
    Published("Multi-level, multi-scale 2018", "msd", "standard", "0.8842", None, "digest", _PONS),
    Published("Multi-level, multi-scale on spectrograms 2017", "msd", "standard", "0.8878", None, "digest", _PONS),
    Published("CRNN 2017", "msd", "standard", "0.862", None, "digest", _PONS),
    Published("MULE", "msd", None, "0.9002", "0.3505", "counted", _MULE),
    Published("Musicset, supervised", "msd", None, "0.9025", "0.3629", "counted", _MULE),
    Published("MULE", "jamendo", "top50, split 0", "0.8388", "0.3169", "counted", _MULE),
    Published("Musicset, supervised", "jamendo", "top50, split 0", "0.8434", "0.3206", "counted", _MULE),
    Published("CNN baseline of MTG-Jamendo", "jamendo", None, "0.7538", "0.1915", "seen", "MTG-Jamendo"),
)


def published_beside(study: Study) -> tuple[list[Published], str]:
    """The published scores that ``study`` may be compared with, and a sentence that explains the selection."""
    if study.data == "songbook":
        return [], (
            "Scores on songbook are never comparable with MagnaTagATune, the Million Song Dataset or any recorded "
            "music: no published scores are shown."
        )
    of_data = [row for row in PUBLISHED if row.data == study.data]
    if not of_data:
        return [], f"No published scores are known for {study.data}."
    splits = {_split(run) for run in study.runs}
    split = splits.pop() if len(splits) == 1 else None
    beside = [row for row in of_data if split is not None and row.split == split]
    others = len(of_data) - len(beside)
    what = f"split {split}" if split is not None else "a split without known published scores"
    text = f"{study.data}, {what}: {len(beside) or 'no'} published score{'' if len(beside) == 1 else 's'} shown."
    if others:
        text += f" {others} more on other or unknown splits are not comparable and left out."
    return beside, text


def _split(run: Run) -> str | None:
    """The split of a run as ``Published`` names it; None without published scores."""
    data: dict[str, Any] = run.config["data"]
    if data.get("max_seconds") is not None:
        return None
    if run.metrics["data"] == "magnatagatune":
        return None if data.get("merge_synonyms") else data["split"]
    if run.metrics["data"] == "msd":
        return data["split"]
    return f"{data['subset']}, split {data['split']}"
