"""Faults of pretrained encoders: what they hear, which weights they get, what of them is trained."""

from tests.mutants.faults import Fault

ENCODERS = "models/frontends/test_huggingface.py::"
FILES = "models/frontends/test_encoder_files.py::"
FINETUNE = "training/test_finetune.py::"

FAULTS = (
    Fault(
        "weights that are missing stay random",
        "musictag/models/frontends/huggingface.py",
        "if missing := sorted(new & wanted.keys()):",
        "if missing := sorted(new - new):",
        FILES + "test_missing_and_misshapen_weights_are_named",
    ),
    Fault(
        "a file chooses whether the code of its model runs",
        "musictag/models/frontends/huggingface.py",
        'trusted = trust_remote_code and str(encoder.get("_target_")).startswith(f"{REMOTE_CODE}.")',
        "trusted = trust_remote_code",
        FILES + "test_code_that_comes_with_a_model_runs_only_when_trusted",
    ),
    Fault(
        "AST hears the deviation of its features once",
        "musictag/models/frontends/encoder_inputs.py",
        '2 * features["std"]',
        'features["std"]',
        ENCODERS + "test_features_are_those_of_the_library[ast]",
    ),
    Fault(
        "all windows hear the first",
        "musictag/models/frontends/huggingface.py",
        "waveform[:, start : start + window]",
        "waveform[:, : window]",
        ENCODERS + "test_long_patches_are_heard_window_by_window",
    ),
    Fault(
        "layers are left out at random in training",
        "musictag/models/frontends/huggingface.py",
        '_WITHOUT_RANDOM = {"layerdrop": 0.0, ',
        "_WITHOUT_RANDOM = {",
        ENCODERS + "test_training_draws_only_dropout",
    ),
    Fault(
        "the first blocks are trained instead of the last",
        "musictag/training/finetune.py",
        "self._blocks[len(self._blocks) - number :]",
        "self._blocks[:number]",
        FINETUNE + "test_blocks_open_from_the_last_to_the_first",
    ),
)
