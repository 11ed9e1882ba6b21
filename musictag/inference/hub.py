"""A tagger as a folder in the layout of the Hugging Face Hub: config.json, model.safetensors, README.md (the card)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write, read_json, write_json
from musictag.common.text import printable
from musictag.models.checkpoint import read_tagger, write_tagger
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import HUB_FILE

WEIGHTS, CONFIG, CARD = HUB_FILE, "config.json", "README.md"
_MAX_BYTES = 2**25
#: Written anew with every file.
_OF_THE_FILE = ("format", "sample_rate", "versions")


def save_pretrained(
    network: TaggingNetwork, facts: Mapping[str, Any], path: Path | None, folder: Path, licence: str | None
) -> None:
    """Write the three files for a tagger with these ``facts``.

    ``metrics.json`` beside ``path``, from where it was loaded, fills the model card.
    """
    facts = {key: value for key, value in facts.items() if key not in _OF_THE_FILE}
    facts |= {"licence": licence} if licence else {}
    folder.mkdir(parents=True, exist_ok=True)
    write_tagger(folder / WEIGHTS, network, **facts)
    description = read_tagger(folder / WEIGHTS).description
    write_json(folder / CONFIG, {"library_name": "musictag", "model_type": "musictag"} | description)
    with atomic_write(folder / CARD, "w") as file:
        file.write(_card(network, facts, _test_scores(path)))


def check_config(folder: Path, description: Mapping[str, Any]) -> None:
    """Raise MusictagError unless config.json, which people and the Hub read, says what the file of the weights says,
    ``description``."""
    try:
        config = read_json(folder / CONFIG, _MAX_BYTES)
    except (OSError, ValueError) as error:
        raise MusictagError(f"{folder / CONFIG} cannot be read: {error}") from error
    if not isinstance(config, dict) or {key: config.get(key) for key in description} != description:
        raise MusictagError(f"{folder / CONFIG} does not describe {WEIGHTS} beside it; use both of the same version")


def _test_scores(path: Path | None) -> dict[str, Any]:
    try:
        return {} if path is None else read_json(path.with_name("metrics.json"), _MAX_BYTES)["test"]
    except (OSError, ValueError, KeyError, TypeError):  # a tagger without its run: the card has what its file says
        return {}


def _card(network: TaggingNetwork, facts: dict[str, Any], test: dict[str, Any]) -> str:
    training = facts.get("training") or {}
    parts = f"{type(network.frontend).__name__} + {type(network.backend).__name__}"
    scores, intervals = facts.get("test") or {}, facts.get("test_intervals") or {}
    lines = [
        "---",
        "library_name: musictag",
        "pipeline_tag: audio-classification",
        f"license: {printable(facts.get('licence') or 'unknown')}",
        "tags: [music, music-tagging]",
        "---",
        "",
        f"# Music tagger: {parts}",
        "",
        f"{len(network.tags)} tags, trained with [musictag](https://pypi.org/project/musictag/) on "
        f"{training.get('songs', 'an unknown number of')} songs of {printable(training.get('data', 'unknown data'))}. "
        f"Input: {network.patch_seconds:g} s of mono audio at {network.sample_rate:g} Hz; "
        f"{sum(p.numel() for p in network.parameters()):,} parameters.",
        "",
        "```python",
        "import musictag",
        "",
        'tagger = musictag.load("THIS_FOLDER")',
        'tagger.tag("song.mp3", top=5)',
        "```",
        "",
    ]
    if scores:
        songs = f"{test['songs']:,} test songs" if test else "the test songs"
        lines += [f"## Scores on {songs}", "", "| metric | score | interval |", "|---|---|---|"]
        for name, value in scores.items():
            low, high = intervals.get(name) or (None, None)
            lines.append(f"| {name} | {value:.4f} | {'' if low is None else f'{low:.4f} to {high:.4f}'} |")
        lines.append("")
    lines += [
        "## Tags",
        "",
        "| tag | kind | songs with it (validation) | confident from | PR-AUC (test) |",
        "|---|---|---|---|---|",
    ]
    own = (facts.get("calibration") or {}).get("tags") or [{}] * len(network.tags)
    tested = {tag["name"]: tag.get("pr_auc") for tag in test.get("tags", ())}
    for tag, found in zip(network.tags, own, strict=True):
        shown = (found.get("positives"), found.get("precision_threshold"), tested.get(tag["name"]))
        cells = ["" if value is None else f"{value:.3g}" for value in shown]
        lines.append(f"| {printable(tag['name']).replace('|', '&#124;')} | {tag['kind']} | {' | '.join(cells)} |")
    lines += [
        "",
        "A tag is confident from the score at which at least 90% of the validation songs had it; none: too few songs. "
        "Scores hold for music like that of the training songs.",
        "",
    ]
    return "\n".join(lines)
