"""Faults of recipes: augmentations, averages of weights, losses, sampling, dropout schedules, ensembles."""

from tests.mutants.faults import Fault

AUGMENTATIONS = "training/test_augmentations.py::"
STEPS = f"{AUGMENTATIONS}test_training_steps_alone_are_augmented_waveform_before_spectrogram"
AVERAGES = "training/test_averaging.py::"
SAVED = f"{AVERAGES}test_the_mean_of_the_last_epochs_is_scored_and_saved"
LOSSES = "training/test_losses.py::test_what_the_other_losses_cost"

FAULTS = (
    Fault(
        "augmentations have the same numbers in every epoch",
        "musictag/data/random_draws.py",
        "_hash(_AUGMENTATION, seed, epoch, *parts)",
        "_hash(_AUGMENTATION, seed, 0, *parts)",
        f"{AUGMENTATIONS}test_the_numbers_of_a_patch_depend_on_nothing_else",
    ),
    Fault(
        "two patches of a song are changed alike",
        "musictag/data/random_draws.py",
        "song_keys([name]), keys[:, None], draws[:, None], np.arange(count)",
        "song_keys([name]), keys[:, None], 0 * draws[:, None], np.arange(count)",
        f"{AUGMENTATIONS}test_the_numbers_of_a_patch_depend_on_nothing_else",
    ),
    Fault(
        "mixup leaves the targets as they are",
        "musictag/training/augmentations.py",
        'batch["target"] = part.applied(batch["target"], draws)',
        "pass",
        STEPS,
    ),
    Fault(
        "the spectrogram is masked in validation, too",
        "musictag/training/augmentations.py",
        "        pl_module.tagger.frontend.augment = None\n",
        "        pass\n",
        STEPS,
    ),
    Fault(
        "the harmonic front-end is not masked",
        "musictag/models/frontends/harmonic.py",
        "image = self.augment(image)",
        "self.augment(image)",
        f"{AUGMENTATIONS}test_every_kind_of_spectrogram_is_masked[harmonic]",
    ),
    Fault(
        "noise is as loud as it is drawn, whatever the patch",
        "musictag/training/augmentations.py",
        "noise * (_level(values) / _level(noise) / _factor(below))",
        "noise / _level(noise) / _factor(below)",
        f"{AUGMENTATIONS}test_noise_has_the_level_that_is_drawn_and_silence_none",
    ),
    Fault(
        "the weights of training are saved, not the averaged ones that were scored",
        "musictag/training/callbacks/checkpoints.py",
        "            with averaged(trainer, pl_module.tagger):\n",
        "            if True:\n",
        SAVED,
    ),
    Fault(
        "training goes on with the averaged weights",
        "musictag/training/callbacks/averaging.py",
        "    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:\n"
        "        self._swap(pl_module.tagger)\n",
        "",
        SAVED,
    ),
    Fault(
        "an average of a resumed run begins anew",
        "musictag/training/callbacks/averaging.py",
        'self._average, self._count = dict(state_dict["average"]), state_dict["count"]',
        "pass",
        f"{AVERAGES}test_an_interrupted_average_goes_on",
    ),
    Fault(
        "batch norms keep the statistics of the last block alone",
        "musictag/training/callbacks/averaging.py",
        "layer.momentum = 1 / (number + 1)",
        "layer.momentum = 1.0",
        f"{AVERAGES}test_batch_norms_are_measured_anew",
    ),
    Fault(
        "batch norms of a frozen front-end are measured anew",
        "musictag/training/callbacks/averaging.py",
        "if isinstance(layer, _BatchNorm) and layer.training]",
        "if isinstance(layer, _BatchNorm)]",
        f"{AVERAGES}test_what_is_frozen_keeps_its_statistics_and_scoring_at_once_changes_nothing",
    ),
    Fault(
        "an accumulated batch counts as a step of the average",
        "musictag/training/callbacks/averaging.py",
        "if trainer.global_step > self._step:",
        "if True:",
        f"{AVERAGES}test_a_moving_average_of_known_numbers",
    ),
    Fault(
        "smoothing moves targets by twice as much",
        "musictag/training/losses.py",
        "targets * (1 - self.smoothing) + self.smoothing / 2",
        "targets * (1 - 2 * self.smoothing) + self.smoothing",
        LOSSES,
    ),
    Fault(
        "the margin of the asymmetric loss is ignored",
        "musictag/training/losses.py",
        "(probabilities - self.margin).clamp(min=0)",
        "probabilities",
        LOSSES,
    ),
    Fault(
        "balance counts songs with any tag as equal",
        "musictag/data/loading/balanced.py",
        "(len(positive) / max(positive.sum(), 1)) ** power",
        "1.0",
        "data/loading/test_balanced.py::test_songs_with_rare_tags_appear_more_often[0.5-4.0]",
    ),
    Fault(
        "dropout is whole again in an epoch that is resumed within",
        "musictag/training/callbacks/dropout.py",
        "        self._set(trainer, pl_module)  # for an epoch",
        "        pass  # for an epoch",
        "training/test_dropout_schedule.py::test_every_dropout_changes_by_the_same_factor",
    ),
    Fault(
        "an ensemble is its first member",
        "musictag/inference/ensemble.py",
        "np.mean([member.predict_song(audio) for member in self.members], axis=0, dtype=np.float32)",
        "self.members[0].predict_song(audio)",
        "inference/test_ensemble.py::test_the_scores_are_the_means_of_those_of_the_members",
    ),
    Fault(
        "the scores of an ensemble are those of its first run",
        "musictag/experiment/results/ensemble.py",
        "np.mean([own.scores for _, _, own in found], axis=0, dtype=np.float64)",
        "found[0][2].scores",
        "experiment/test_ensemble.py::test_an_ensemble_is_a_run_of_its_own",
    ),
    Fault(
        "runs with other labels make an ensemble",
        "musictag/experiment/results/ensemble.py",
        "if not np.array_equal(one.targets, other.targets, equal_nan=True):",
        "if False:",
        "experiment/test_ensemble.py::test_runs_without_a_mean_are_refused",
    ),
)
