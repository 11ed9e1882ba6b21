"""The run of a network: train, choose the best epoch, test."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.common.processes import KILL, is_rank_zero, keep_freed_memory, rank_zero_say
from musictag.common.text import some
from musictag.data.datasets import Source
from musictag.data.features.patch_features import patch_feature_folder
from musictag.data.loading.datamodule import SongDataModule
from musictag.data.manifest import Manifest, Tag
from musictag.evaluation.plots import plot_curves
from musictag.experiment.builders import build_data, build_module, check_batches, check_songs
from musictag.experiment.choices import other_choices, remove_choices, score_choices, with_test
from musictag.experiment.contract import SCORES, Run
from musictag.experiment.failures import explain_failure, format_error
from musictag.experiment.identity import batch_norm_shares, may_cache, with_conditional_keys, without
from musictag.experiment.results.files import read_results, write_scores
from musictag.experiment.results.networks import network_facts, training_facts, with_stored_features
from musictag.experiment.run_folder import clean_up, write_error
from musictag.experiment.tracking.tracker import make_tracker
from musictag.inference.embedding import BeforeHead
from musictag.models.checkpoint import StoredTagger, read_checkpoint, read_tagger, store_tagger, tagger_spec
from musictag.models.frontends.encoder import described, load_weights
from musictag.models.pretrained import TAGGER_FILE, digest
from musictag.training.callbacks.checkpoints import save_tagger
from musictag.training.callbacks.history import History, write_history
from musictag.training.distillation import check_teacher, teacher_digest
from musictag.training.distributed.launcher import WatchedDDP
from musictag.training.flags import AUTO, check_compiler
from musictag.training.module import TaggingModule
from musictag.training.precision import choose_precision
from musictag.training.signals import SignalHandler
from musictag.training.trainer import build_trainer, interactive, quieten_lightning
from musictag.training.transfer import check_transfer, initialise_from


class NetworkRun(Run):
    """Train a network on random patches, choose the best epoch, test it on whole songs."""

    files: ClassVar = {
        "metrics.json": SCORES,
        TAGGER_FILE: "the tagger",
        "predictions.npz": "test songs, scores, targets",
        "tags.png": "test scores per tag",
        "curves.png": "training curves",
        "history.csv": "one row per epoch",
    }
    model_file = TAGGER_FILE
    single_process = False

    def check(self) -> None:
        check_transfer(self.config)
        check_teacher(self.config)
        described(self.config["frontend"])  # a folder that is no encoder

    @property
    def name_parts(self) -> list[str]:
        names = self.config["names"]
        model = [names["model"]] if names["model"] else [names["frontend"], names["backend"]]
        return model + ([names["probe"]] if names["probe"] else [])

    @property
    def max_epochs(self) -> int:
        return self.config["trainer"]["max_epochs"]

    def patches_to_train(self) -> int | None:
        data = self.config["data"]
        if data["patches_per_epoch"] is not None:
            return data["patches_per_epoch"] * self.max_epochs
        if (songs := data["train_songs"]) is None:
            return None
        share = data["unlabelled_share"] if self.config["teacher"] is not None else 0
        return round(songs * data["patches_per_song"] * self.max_epochs / (1 - share))

    def deciding(self, locations: Collection[str]) -> dict[str, Any]:
        decides = without(super().deciding(locations), ("baseline",))  # null and omitted are the same run
        frontend = self.config.get("frontend")
        if frontend and "encoder" in (frontend := described(frontend)):  # by its content, whatever its folder is called
            decides["frontend"] = frontend | {"encoder": frontend["encoder"].get("files", frontend["encoder"])}
        return with_conditional_keys(decides, self.config)

    def digests(self) -> dict[str, str]:
        weights, teacher = self.config["init_from"], self.config.get("teacher")
        found = {} if weights is None else {"weights": digest(weights)}
        if teacher is None:
            return found
        # the run of another model has an identity before it has weights
        by_run = self.config["distillation"]["model"] is not None
        return found | {"teacher": Path(teacher).name.rpartition("-")[2] if by_run else teacher_digest(teacher)}

    def songs(self, source: Source) -> Manifest:
        return super().songs(source) if self.config.get("teacher") is None else source.learnable_manifest()

    def folder(self, source: Source) -> Path:
        if batch_norm_shares(self.config["trainer"]) is None:
            raise MusictagError(
                "with trainer.sync_batchnorm=false every process has its own batch norms, so their number changes the "
                f"network, and trainer.devices={self.config['trainer'].get('devices')} leaves it to the machine; use a "
                "number, such as trainer.devices=2, or trainer.sync_batchnorm=true"
            )
        return super().folder(source)

    def describe(self, metrics: Mapping[str, Any]) -> tuple[str, str, str]:
        whole, trained = metrics["parameters"], metrics["parameters_trained"]
        size = f"{whole:,} parameters" if trained == whole else f"{trained:,} of {whole:,} parameters trained"
        name = self.config["names"]["model"] or f"{metrics['frontend']} + {metrics['backend']}"
        training, testing = (metrics["speed"][f"{stage}_audio_seconds_per_second"] for stage in ("train", "test"))
        tested = f"tested at {testing:,.0f} seconds of audio per second"
        if training is None:
            return name, f"{size}: the weights of {self.config['init_from']} as they are", tested
        best = f"best epoch {metrics['best_epoch'] + 1} of {metrics['epochs']}"
        return name, f"{size}, {best}", f"trained at {training:,.0f}, {tested}"

    def execute(self, source: Source, run_dir: Path, signal_handler: SignalHandler) -> dict[str, Any]:
        config = self.config
        began = time.perf_counter()
        keep_freed_memory()
        quieten_lightning()
        if is_rank_zero():
            clean_up(run_dir)
        pl.seed_everything(config["seeds"]["initialisation"], workers=True, verbose=False)

        data = build_data(config, source)
        will_train = config["trainer"]["max_epochs"] != 0
        module, started_from = _model(config, source, data, source.learnable_manifest().tags)
        data.margin_samples = module.tagger.frontend.margin_samples
        config = _with_precision(config, module, run_dir / "last.ckpt")
        history = History(run_dir / "history.csv", announce=not interactive())
        tracker = make_tracker(config, run_dir)
        trainer = build_trainer(config, run_dir, history, tracker.loggers, signal_handler)
        if isinstance(trainer.strategy, WatchedDDP):
            trainer.strategy.on_death = partial(write_error, run_dir)
        if config["compile"]:
            check_compiler(trainer.strategy.root_device)
        check_batches(config, module, len(self.songs(source).rows("train")), trainer.world_size)
        data.prepare_data()
        data.setup()
        if data.tags != source.learnable_manifest().tags:  # some tags are lost with songs that could not be read
            pl.seed_everything(config["seeds"]["initialisation"], workers=True, verbose=False)
            precision = module.precision
            module, started_from = _model(config, source, data, data.tags)
            module.precision = precision
        if module.distillation is not None:
            rank_zero_say(module.distillation.about)
            if config["distillation"]["stored"]:
                module.distillation.teacher.to(trainer.strategy.root_device)
                data.use_teacher(*module.distillation.teacher.stored())
        check_songs(data, trainer.world_size)
        prepared = time.perf_counter()

        run_dir.mkdir(parents=True, exist_ok=True)
        last = run_dir / "last.ckpt"
        best_path = run_dir / TAGGER_FILE
        if best_path.exists():
            _read_best(best_path)  # fail now rather than after training
        if trainer.is_global_zero:
            write_json(run_dir / "config.json", self.config)
        if last.exists():
            rank_zero_say(_check_checkpoint(last, module))
        elif started_from is not None:
            rank_zero_say(started_from)
        else:
            module.tagger.fit_normalisation(data.normalisation_waveforms())
        embedder = None
        if config.get("cached_features") and may_cache(config) and module.only_head_learns():
            if last.exists():  # what was measured before training
                module.load_state_dict(_read_last(last)["state_dict"])
            embedder = BeforeHead(module.to(trainer.strategy.root_device).tagger)
            data.use_features(embedder)
            rank_zero_say(
                f"What is frozen is computed once per song, for its consecutive patches: "
                f"{patch_feature_folder(data.store, embedder)}"
            )
        stored = time.perf_counter()
        try:
            if trainer.is_global_zero:
                tracker.start()
            validation = None
            if will_train:
                signal_handler.defer(True)
                trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None)
                signal_handler.defer(False)
            else:
                validation = _evaluate_as_given(trainer, module, data, best_path)
            trained = time.perf_counter()
            best = _read_best(best_path)
            best_epoch = best.description["epoch"]

            def score(state: Mapping[str, Tensor], split: str = "test") -> np.ndarray:
                module.tagger.load_state_dict(state)
                data.tested = split
                trainer.test(module, datamodule=data, verbose=False)
                return module.test_scores

            choices = other_choices(config, history.rows) if will_train else {}
            compared = config["evaluation"]["compare_choices"]
            others = score_choices(choices, best_epoch, run_dir, score) if compared else {}
            validation_scores = score(best.state, "validation")
            scores = score(best.state)  # the last test, whose time counts
            metrics = None
            if trainer.is_global_zero:
                seconds = {"prepare": prepared - began, "features": stored - prepared, "train": trained - stored}
                seconds["test"] = module.test_seconds
                if history.rows:
                    # again: a run resumed after its last epoch has not written it, and the file may be damaged
                    write_history(history.path, history.rows)
                    plot_curves(history.rows, run_dir / "curves.png", best_epoch=best_epoch)
                facts = network_facts(module.tagger, data, history.rows, best_epoch, validation, seconds)
                facts |= training_facts(module.tagger, history.rows, best_epoch, config["monitor"], trainer.global_step)
                if embedder is not None:
                    facts = with_stored_features(facts, module.tagger, data, embedder)
                metrics = write_scores(
                    run_dir,
                    config=self.config,
                    data=data,
                    scores=scores,
                    validation_scores=validation_scores,
                    own=facts
                    | {"choices": with_test(choices, others | {best_epoch: scores}, data)}
                    | {"precision": trainer.precision},
                    device=str(trainer.strategy.root_device),
                    on_scored=lambda facts: store_tagger(best_path, best.description | facts, best.state),
                )
                remove_choices(run_dir)
                tracker.finish(metrics, data, scores)
            trainer.strategy.barrier()
            return metrics if metrics is not None else read_results(run_dir)
        except BaseException as error:
            explained = explain_failure(error, trainer, config)
            if isinstance(explained, Exception):
                write_error(run_dir, format_error(explained))  # before anything else, which may hang
            tracker.close(exit_code=1)
            # the other processes wait in a collective operation, which only SIGKILL ends
            if hasattr(trainer.strategy.launcher, "kill"):
                trainer.strategy.launcher.kill(KILL)
            if explained is error:
                raise
            raise explained from error


def _evaluate_as_given(
    trainer: pl.Trainer, module: TaggingModule, data: SongDataModule, best: Path
) -> dict[str, float]:
    """For ``trainer.max_epochs=0``: save the initial weights as the best ones; returns their validation scores."""
    (values,) = trainer.validate(module, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        save_tagger(best, module.tagger, None, values)
    trainer.strategy.barrier()
    return {name: value for name, value in values.items() if name.startswith("val_")}


def _model(
    config: dict[str, Any], source: Source, data: SongDataModule, tags: Sequence[Tag]
) -> tuple[TaggingModule, str | None]:
    """The untrained module for these tags, and a description of its initial weights unless they are random."""
    module = build_module(config, source, data, tags)
    if config["init_from"] is None:
        return module, load_weights(module.tagger.frontend, config["frontend"].get("name"))
    return module, initialise_from(module.tagger, config["init_from"], config["trainer"]["max_epochs"] != 0)


def _with_precision(config: dict[str, Any], module: TaggingModule, last: Path) -> dict[str, Any]:
    """``config`` with a precision instead of ``auto``: the one that the run has begun with, or the faster one."""
    settings = config["trainer"]
    if settings.get("precision") != AUTO:
        return config
    if last.exists():
        precision, reason = _read_last(last)["precision"], "as before"
    else:
        on_gpu = settings.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        devices = settings.get("devices")
        gpu = f"cuda:{devices[0]}" if isinstance(devices, list) else "cuda"
        device = torch.device(gpu if on_gpu else "cpu")
        try:
            precision, reason = choose_precision(
                module.tagger, module.loss, config["data"]["batch_size"], device, config["seeds"]["order"]
            )
        except torch.OutOfMemoryError:
            precision, reason = "bf16-mixed", "a step in float32 needs more memory than there is"
    module.precision = precision
    rank_zero_say(f"Precision {precision}: {reason}")
    return config | {"trainer": settings | {"precision": precision}}


def _read_best(path: Path) -> StoredTagger:
    try:
        return read_tagger(path)
    except MusictagError as error:
        raise MusictagError(f"{error}. Delete the folder to train again.") from error


def _check_checkpoint(path: Path, module: TaggingModule) -> str:
    """A message about where training resumes; raises MusictagError for a damaged checkpoint or one of other tags."""
    content = _read_last(path)
    spec = tagger_spec(content)
    tags = module.hparams["tagger"]["tags"]
    if spec["tags"] != tags:
        theirs, ours = ([tag["name"] for tag in these] for these in (spec["tags"], tags))
        raise MusictagError(
            f"{path} was trained for other tags ({len(theirs)}: {some(theirs)}) than the data has now ({len(ours)}: "
            f"{some(ours)}). Delete it to train from the start."
        )
    finished = len(content.get("callbacks", {}).get("History", {}).get("rows", ()))
    return f"Resuming from {path} after {finished} finished epochs"


def _read_last(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; raises MusictagError for a damaged one."""
    try:
        content = read_checkpoint(path)
        if tagger_spec(content) is None:
            raise ValueError("it holds no tagger")
        return content
    except ValueError as error:
        raise MusictagError(
            f"{path} is damaged and cannot be resumed from: {error}. Delete it to train from the start; "
            f"if {TAGGER_FILE} is in the same folder, it still holds the best model so far."
        ) from error
