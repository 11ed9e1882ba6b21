"""Published scores, and which of them may stand beside a study's own: those of the same data and the same split.

Only numbers that stand in a public source, or were counted from public files, are here. The split alone is worth six
to seven points of PR-AUC on MagnaTagATune, so that no number goes without its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musictag.report.runs import Run, Study


@dataclass(frozen=True)
class Published:
    """A score as its source prints it: ``roc_auc`` and ``pr_auc`` keep the digits given there, in [0, 1].

    ``data``: the name of the source here. ``split``: that of the configuration, None where the source does not say.
    ``status``: seen (printed in the source) or counted (from files of the source).
    """

    model: str
    data: str
    split: str | None
    roc_auc: str
    pr_auc: str
    status: str
    source: str


_CLMR, _MUSICNN, _MULE = "README of CLMR", "README of musicnn", "result files of MULE (McCallum et al. 2022)"
PUBLISHED = (
    Published("SampleCNN, as Pons et al. 2018 ran it", "magnatagatune", "original", "0.886", "0.344", "seen", _CLMR),
    Published("Pons et al. 2018, most likely waveform", "magnatagatune", "original", "0.891", "0.3492", "seen", _CLMR),
    Published("musicnn", "magnatagatune", "original", "0.9067", "0.3831", "seen", _MUSICNN),
    Published("VGG of musicnn", "magnatagatune", "original", "0.9030", "0.3823", "seen", _MUSICNN),
    Published("CLMR, linear", "magnatagatune", "original", "0.887", "0.356", "seen", _CLMR),
    Published("CLMR, MLP", "magnatagatune", "original", "0.893", "0.360", "seen", _CLMR),
    Published("MULE", "magnatagatune", None, "0.9141", "0.4043", "counted", _MULE),
    Published("Musicset, supervised", "magnatagatune", None, "0.9171", "0.4127", "counted", _MULE),
    Published("Short-chunk CNN + Res", "magnatagatune", "clean", "0.9129", "0.4614", "seen", "Won et al. 2020"),
    Published("musicnn", "msd", "standard", "0.8802", "0.2891", "seen", _MUSICNN),
    Published("musicnn, big", "msd", "standard", "0.8841", "0.3003", "seen", _MUSICNN),
    Published("VGG of musicnn", "msd", "standard", "0.8768", "0.2819", "seen", _MUSICNN),
    Published("Pons et al. 2018, spectrogram", "msd", "standard", "0.8875", "0.3124", "seen", "Pons et al. 2018"),
    Published("Pons et al. 2018, waveform", "msd", "standard", "0.8741", "0.2853", "seen", "Pons et al. 2018"),
    Published("MULE", "msd", None, "0.9002", "0.3505", "counted", _MULE),
    Published("Musicset, supervised", "msd", None, "0.9025", "0.3629", "counted", _MULE),
    Published("MULE", "jamendo", "top50, split 0", "0.8388", "0.3169", "counted", _MULE),
    Published("Musicset, supervised", "jamendo", "top50, split 0", "0.8434", "0.3206", "counted", _MULE),
    Published("CNN baseline of MTG-Jamendo", "jamendo", None, "0.7538", "0.1915", "seen", "MTG-Jamendo"),
)


def published_beside(study: Study) -> tuple[list[Published], str]:
    """The published scores that ``study`` may be read beside, and a sentence on which and why."""
    if study.data == "songbook":
        return [], (
            "Scores on songbook are never comparable with MagnaTagATune, the Million Song Dataset or any recorded "
            "music: no published score stands beside them."
        )
    of_data = [row for row in PUBLISHED if row.data == study.data]
    if not of_data:
        return [], f"No published scores are known for {study.data}."
    splits = {_split(run) for run in study.runs}
    split = splits.pop() if len(splits) == 1 else None
    beside = [row for row in of_data if split is not None and row.split == split]
    others = len(of_data) - len(beside)
    what = f"split {split}" if split is not None else "no split that published scores are known for"
    text = f"{study.data}, {what}: {len(beside) or 'no'} published score{'' if len(beside) == 1 else 's'} beside it."
    if others:
        text += f" {others} more on another split, or without saying which, are not comparable and left out."
    return beside, text


def _split(run: Run) -> str | None:
    """The split of a run in the words of ``Published``; None for what nobody has published on."""
    data: dict[str, Any] = run.config["data"]
    if data.get("max_seconds") is not None:
        return None
    if run.metrics["data"] == "magnatagatune":
        return None if data.get("merge_synonyms") else data["split"]
    if run.metrics["data"] == "msd":
        return data["split"]
    return f"{data['subset']}, split {data['split']}"
