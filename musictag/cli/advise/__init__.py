"""`musictag advise`: which system to use for one's own songs, and what more songs would bring."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musictag.common.paths import path_argument

if TYPE_CHECKING:
    from musictag.cli.advise.schedule import Schedule
    from musictag.cli.advise.session import Session
    from musictag.report.advice import Advice

#: The GPU that the answer about a GPU is about: one that can be rented cheaply.
_GPU, _UTILISATION = "rtx4090", 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag advise`."""
    parser.description = (
        "Train a few systems on your songs, on all of them and on halves of halves, within a time limit. Then say "
        "which one to use, what twice the songs would bring, how sure that is, which tags want more examples, what a "
        "GPU would change, and how to train the final tagger. Finished runs are kept: rerun the command to continue."
    )
    parser.add_argument(
        "data",
        nargs="+",
        metavar="CATALOGUE | KEY=VALUE",
        help="your table (.csv, .tsv, .parquet); or settings as for train.py, such as data=songbook",
    )
    parser.add_argument(
        "--hours", type=float, default=2.0, metavar="H", help="stop after this time (default: 2); more is more certain"
    )
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="what to compare, as model=NAME of train.py (default: by machine)"
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="FOLDER",
        help="where advice.html and advice.md go (default: runs/DATA/advice)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run what there is time for, and write and print the advice; returns the exit status: 1 if no run is finished.

    Raises MusictagError for data that cannot be used, and for times and models that do not exist.
    """
    from musictag.cli.advise.schedule import STUDY
    from musictag.cli.advise.session import Session, default_models
    from musictag.common.errors import MusictagError
    from musictag.experiment.compose import configuration
    from musictag.report.advice import advise
    from musictag.report.study import Study, find_runs

    if not 0 < arguments.hours < 1e6:
        raise MusictagError(f"--hours {arguments.hours:g} must be positive, and less than a million, such as --hours 2")
    arguments.kept = "; finished runs are kept: rerun the command to continue"
    given, config = _given(arguments.data), configuration(arguments.data)
    for model in arguments.models or ():
        configuration([*arguments.data, f"model={model}"])
    session = Session(given, arguments.hours, arguments.models or default_models())
    chosen = session.run()
    folders = set(session.folders.values())
    place = next(iter(folders)).parent
    runs = [run for run in find_runs(place) if run.folder in folders]
    if not runs:
        print("no run is finished, so there is nothing to say yet: rerun the command, with more --hours")
        return 1
    study = Study(STUDY, runs)
    advice = advise(study, _positives(config))
    extra = [("What would a GPU change?", _gpu(session, chosen, config))]
    if missing := session.missing(chosen):
        asked = "Not run, for lack of time; rerun the command to continue, with more --hours if a system is left out"
        extra.append(("What is missing?", f"{asked}: {'; '.join(missing)}."))
    if session.failed:
        extra.append(("What went wrong?", f"These runs failed: {'; '.join(session.failed)}."))
    advice.answers.extend(extra)
    _show(advice, _commands(study, advice, session, chosen, place), Path(arguments.out or place / "advice"), study)
    return 0


def _given(words: list[str]) -> list[str]:
    """The arguments as overrides: the table by its path."""
    given = []
    for word in words:
        if "=" not in word or os.path.isfile(os.path.expanduser(word)):
            given += ["data=catalogue", f"data.path={os.path.abspath(os.path.expanduser(word))}"]
        else:
            given.append(word)
    return given


def _positives(config: dict[str, Any]) -> dict[str, int]:
    """Training songs with each classification tag."""
    from musictag.experiment.builders import shared_source

    train = shared_source(config).learnable_manifest().split("train")
    return {tag.name: int((train.values(tag.name) == 1).sum()) for tag in train.tags if tag.kind == "classification"}


def _gpu(session: Session, chosen: Schedule, config: dict[str, Any]) -> str:
    """How long the paper's spectrogram model would take here and on a GPU: estimates, and said to be."""
    import torch

    from musictag.cli.plan.speed import estimated_speed
    from musictag.experiment.builders import shared_source
    from musictag.experiment.compose import compose
    from musictag.models.summary import sketch

    tags = len(shared_source(config).learnable_manifest().tags)
    if torch.cuda.is_available():
        return "This machine has one, and it was used."
    small, full = (sketch(compose([f"model={name}"]), tags) for name in ("spectrogram_small", "pons_spectrogram"))
    speed = session.speeds.get("spectrogram_small") or _measured_patches(session)
    patches = max(chosen.patches, 100_000)
    there = estimated_speed(full, "32-true", _GPU, None, _UTILISATION).value
    words = (
        f"The paper's own networks ({full.parameters / 1e6:.1f} million parameters, {full.flops / small.flops:.0f} "
        "times the work per patch of the small ones) become possible: "
    )
    if speed:
        here = speed * small.flops / full.flops
        words += f"{patches:,} patches take about {patches / here / 3600:.1f} hours on this machine and "
    return words + (
        f"about {patches / float(there) / 60:.0f} minutes on an {_GPU} (estimated from its peak, not measured). "
        "Whether they are better with so few songs is not known from these runs. Decoding and features stay as slow."
    )


def _measured_patches(session: Session) -> float | None:
    """Training patches per second of a finished run of the small spectrogram model."""
    from musictag.experiment.results.files import read_results

    for (model, *_), folder in session.folders.items():
        metrics = read_results(folder) if model == "spectrogram_small" else None
        if metrics:
            return metrics["speed"]["train_audio_seconds_per_second"] / metrics["config"]["data"]["patch_seconds"]
    return None


def _commands(study: Any, advice: Advice, session: Session, chosen: Schedule, place: Path) -> list[str]:
    """How to use the tagger that there is, how to train the final one, and how to see more."""
    largest = max(run.train_songs for run in study.runs)
    run = next(run for run in study.runs if run.system == advice.best and run.train_songs == largest)
    model = next(name for (name, *_), folder in session.folders.items() if folder == run.folder)
    longer = ", trained twice as long" if model in chosen.networks else ""
    words = [*session.given, *chosen.training(model, 2)]
    return [
        f"musictag tag song.mp3 --model {shlex.quote(str(run.folder))}    # a tagger from these runs",
        f"python train.py {shlex.join(words)}    # the final one{longer}",
        f"musictag report {shlex.quote(str(place))} --study {study.name}    # everything about these runs",
    ]


def _show(advice: Advice, commands: list[str], out: Path, study: Any) -> None:
    """Write the page, and print its content."""
    from rich.console import Console
    from rich.table import Table

    from musictag.common.files import atomic_write
    from musictag.common.text import printable
    from musictag.report.advice import page
    from musictag.report.tables.formats import markdown_text, to_markdown

    title = f"Advice for {study.data}"
    out.mkdir(parents=True, exist_ok=True)
    asked = "\n\n".join(f"## {question}\n\n{markdown_text(answer)}" for question, answer in advice.answers)
    listed = "\n".join(f"    {command}" for command in commands)
    for name, content in (
        ("advice.md", f"# {markdown_text(title)}\n\n{asked}\n\n{to_markdown(advice.sheet)}\n{listed}\n"),
        ("advice.html", page(title, advice, commands)),
    ):
        with atomic_write(out / name, "w") as file:
            file.write(content)
    console = Console()
    table = Table(title=advice.sheet.title, title_justify="left")
    for place, heading in enumerate(advice.sheet.headings):
        numeric = place in advice.sheet.numeric
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=not numeric)
    for row in advice.sheet.rows:
        table.add_row(*(printable(cell.text) for cell in row))
    console.print(table)
    for note in advice.sheet.notes:
        print(printable(note))
    for question, answer in advice.answers:
        console.print(f"\n[bold]{question}[/bold]")
        print(printable(answer))
    print("\n" + printable("\n".join(commands)))
    print(f"\n{out / 'advice.html'}")
