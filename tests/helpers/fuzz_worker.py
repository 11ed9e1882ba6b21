"""`python -m tests.helpers.fuzz_worker KIND MEGABYTES SECONDS` reads the files named on standard input.

It prints one JSON object per line: ``{"begun": path}`` before a file, ``{"path", "outcome", "why"}`` after it. The
outcome is "used", "refused" (with a proper error message) or "bug". Memory and time are limited.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path


def read_audio(path: Path) -> None:
    from musictag.data.audio.decode import declared_seconds, read_song

    declared_seconds(path)
    read_song(path)


def read_tagger(path: Path) -> None:
    import numpy as np

    from musictag.inference.load import load

    tagger = load(path)
    if tagger.network.patch_samples < 100_000:
        tagger.tag((np.random.default_rng(0).normal(0, 0.1, 16000), 16000))


def read_catalogue(path: Path) -> None:
    from musictag.common.errors import MusictagError
    from musictag.data.catalogue.check import check
    from musictag.data.datasets.catalogue import CatalogueFile

    with suppress(MusictagError):  # a file that cannot be checked cannot be used either
        str(check(path))
    CatalogueFile(path, split_path=path.with_suffix(".split")).manifest()


def read_pickle(path: Path) -> None:
    from musictag.data.datasets.msd.pickles import load_pickle

    load_pickle(path)


def read_models(path: Path) -> None:
    import numpy as np

    from musictag.common.errors import MusictagError
    from musictag.models.baselines import FeatureModel, check_scores, read_models
    from musictag.models.factory import build

    try:
        content = read_models(path)
    except ValueError as error:
        raise MusictagError(f"{path}: {error}") from error
    try:
        model = build(content["baseline"], FeatureModel)
        predictors = [model.predictor(tag, tag["kind"]) for tag in content["tags"]]
        check_scores(lambda songs: np.stack([predict(songs) for predict in predictors]), len(content["features"]))
    except MusictagError as error:
        raise MusictagError(f"{path}: {error}") from error


KINDS = {
    "audio": read_audio, "tagger": read_tagger, "catalogue": read_catalogue, "pickle": read_pickle,
    "models": read_models,
}  # fmt: skip


def main(kind: str, megabytes: int, seconds: float) -> None:
    from musictag.common.errors import MusictagError, SongError

    read = KINDS[kind]
    say(ready=warm_up(kind))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        say(begun=str(path))
        signal.setitimer(signal.ITIMER_REAL, seconds)  # also ends a process that is busy in C code
        try:
            read(path)
            outcome, why = "used", ""
        except MusictagError as error:
            # the readers of songs leave naming the file to their caller; all others must name it themselves
            outcome, why = ("refused" if path.name in str(error) else "bug"), str(error)
        except SongError as error:
            outcome, why = "refused", str(error)
        except BaseException:
            outcome, why = "bug", traceback.format_exc()
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(path=str(path), outcome=outcome, why=why)


def warm_up(kind: str) -> str:
    """Load the libraries that this kind of file needs, so that their memory is not counted."""
    import musictag.data.audio.decode
    import musictag.data.catalogue.check
    import musictag.data.datasets.catalogue

    if kind in ("tagger", "models"):
        import lightgbm  # noqa: F401
        import torch

        import musictag.inference.load

        torch.set_num_threads(1)
        torch.nn.Conv1d(1, 1, 3)(torch.zeros(1, 1, 9)).sum().backward()
    return musictag.__name__


def say(**words: str) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
