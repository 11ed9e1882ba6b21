"""Faults of the baselines: features, trees, linear models."""

from tests.mutants.faults import Fault

LIBROSA = "data/features/test_descriptors.py::test_the_descriptors_are_those_of_librosa"

FAULTS = (
    Fault(
        "features are standardised with validation songs, too",
        "musictag/models/baselines/linear.py",
        "mean_and_scale(train)",
        "mean_and_scale(np.concatenate([train, validation]))",
        "models/baselines/test_leaks.py::test_features_of_validation_songs_change_no_model_of_a_baseline",
    ),
    Fault(
        "validation chooses the worst penalty",
        "musictag/models/baselines/linear.py",
        "= min(candidates, key",
        "= max(candidates, key",
        "models/baselines/test_feature_models.py::test_validation_chooses_the_penalty",
    ),
    Fault(
        "the offset of a linear model forgets the mean",
        "musictag/models/baselines/linear.py",
        "float(offset - weights @ (self._mean / self._scale))",
        "float(offset)",
        "models/baselines/test_feature_models.py::test_the_linear_models_are_those_of_scikit_learn_on_features_standardised_by_training_songs",
    ),
    Fault(
        "a larger penalty is a smaller one",
        "musictag/models/baselines/regressions.py",
        "penalty / 2 * weights @ weights, np.append(penalty * weights, 0.0)",
        "weights @ weights / 2 / penalty, np.append(weights / penalty, 0.0)",
        "models/baselines/test_feature_models.py::test_the_linear_models_are_those_of_scikit_learn_on_features_standardised_by_training_songs",
    ),
    Fault(
        "training songs say when trees are enough",
        "musictag/models/baselines/trees.py",
        "judged = self._known(self._validation, validation)",
        "judged = self._known(self._train, train)",
        "models/baselines/test_feature_models.py::test_trees_end_where_validation_is_best",
    ),
    Fault(
        "trees learn unknown songs as negative ones",
        "musictag/models/baselines/trees.py",
        "            songs = songs.subset(known, params=self._parameters).construct()\n"
        "        return songs.set_label(targets[known])",
        "            targets, known = np.nan_to_num(targets), np.arange(len(targets))\n"
        "        return songs.set_label(targets[known])",
        "models/baselines/test_feature_models.py::test_songs_whose_target_is_unknown_are_left_out",
    ),
    Fault(
        "the seed of a study does not reach the trees",
        "musictag/models/baselines/trees.py",
        'settings.parameters | {"seed": seed}',
        'settings.parameters | {"seed": 0}',
        "models/baselines/test_feature_models.py::test_every_setting_of_the_trees_reaches_them",
    ),
    Fault(
        "a tag that validation cannot judge gets the largest choice of the others",
        "musictag/training/baseline.py",
        "model.typical(choices) if choices else None",
        "max(choices) if choices else None",
        "models/baselines/test_feature_models.py::test_a_tag_that_validation_cannot_judge_gets_what_is_typical_of_the_others",
    ),
    Fault(
        "test songs are scored by the features of validation songs",
        "musictag/experiment/baseline_run.py",
        "np.split(features, np.cumsum([len(songs) for songs in ids])[:-1])",
        "np.split(features, np.cumsum([len(ids[0]), len(ids[2])]))",
        "experiment/test_baseline_run.py::test_a_linear_run_knows_what_is_high",
    ),
    Fault(
        "a baseline trains on its validation targets",
        "musictag/training/baseline.py",
        'found = fitter.fit(tag.kind, targets["train"][:, k], targets["validation"][:, k], chosen)',
        'found = fitter.fit(tag.kind, targets["train"][::-1, k], targets["validation"][:, k], chosen)',
        "experiment/test_baseline_run.py::test_a_linear_run_knows_what_is_high",
    ),
    Fault(
        "features come in the order in which they were stored",
        "musictag/data/features/cache.py",
        "features[wanted] = values",
        "features[np.sort(wanted)] = values",
        "data/features/test_cache.py::test_features_come_in_the_order_asked_for_and_are_computed_once",
    ),
    Fault(
        "other audio has the features of the old one",
        "musictag/data/features/cache.py",
        '("shard", "shard_crc32", "offset", "samples")',
        '("offset", "samples")',
        "data/features/test_cache.py::test_other_audio_has_its_own_features[train-00]",
    ),
    Fault(
        "the roll-off lies at half of the magnitude",
        "musictag/data/features/descriptors.py",
        "ROLLOFF = 0.85",
        "ROLLOFF = 0.5",
        LIBROSA,
    ),
    Fault(
        "bandwidth is a mean distance",
        "musictag/data/features/descriptors.py",
        'np.sqrt(np.einsum("tf,tf->t", share, np.square(distance, out=distance)))',
        'np.einsum("tf,tf->t", share, np.abs(distance))',
        LIBROSA,
    ),
    Fault(
        "tempi are counted from a lag of none",
        "musictag/data/features/descriptors.py",
        "tempogram[1:][(tempi >= low)",
        "tempogram[:-1][(tempi >= low)",
        "data/features/test_descriptors.py::test_the_tempogram_knows_the_tempo_to_a_frame[15-120-150]",
    ),
    Fault(
        "percentiles are of frames and not of songs",
        "musictag/data/features/descriptors.py",
        "np.percentile(values, PERCENTILES, axis=1)",
        "np.percentile(values, PERCENTILES[::-1], axis=1)",
        "data/features/test_descriptors.py::test_the_descriptors_are_those_of_librosa",
    ),
    Fault(
        "importances are the smallest first",
        "musictag/experiment/results/importances.py",
        'np.argsort(-of_tag, kind="stable")',
        'np.argsort(of_tag, kind="stable")',
        "experiment/test_baseline_identity.py::test_importances_are_sorted_by_tag_and_drawn",
    ),
)
