"""Faults of what is made of people's files: decoding, labels, copies, tags that can be learnt, many songs at once."""

from tests.mutants.faults import Fault

FAULTS = (
    Fault(
        "bytes that were skipped are not told",
        "musictag/data/audio/decoding/lost_audio.py",
        "if self.bytes > TOLERATED_BYTES:",
        "if self.bytes > 2**40:",
        "data/audio/decoding/test_mp3.py::test_non_audio_bytes_are_skipped_and_reported",
    ),
    Fault(
        "a song with a large hole is used",
        "musictag/data/audio/decoding/lost_audio.py",
        "max(TOLERATED_SECONDS, LARGEST_LOST_SHARE",
        "max(1e9, LARGEST_LOST_SHARE",
        "data/audio/decoding/test_mp3.py::test_a_small_gap_is_reported_and_a_large_one_refused",
    ),
    Fault(
        "a file that is cut short is used",
        "musictag/data/audio/decoding/decoder.py",
        '            raise SongError(f"cut short: {missing:.1f} s are missing")\n',
        "            pass\n",
        "data/audio/decoding/test_mp3.py::test_a_file_that_ends_too_early_is_cut_short",
    ),
    Fault(
        "only the first link of a chain is read",
        "musictag/data/audio/decoding/decoder.py",
        "    for link in links:\n",
        "    for link in links[:1]:\n",
        "data/audio/decoding/test_containers.py::test_every_link_of_a_chain_is_read",
    ),
    Fault(
        "32-bit samples are taken for 16-bit ones",
        "musictag/data/audio/decoding/gathering.py",
        '"s32": 2**31',
        '"s32": 2**15',
        "data/audio/decoding/test_containers.py::test_finer_samples_have_the_same_full_scale",
    ),
    Fault(
        "channels that cancel each other are called silent",
        "musictag/data/audio/decode.py",
        "if audible and self._mean_energy",
        "if False and self._mean_energy",
        "data/audio/decoding/test_reasons.py::test_channels_that_cancel_each_other_are_not_silent",
    ),
    Fault(
        "songs of a few samples are used",
        "musictag/data/audio/decode.py",
        "if num_samples < MIN_SECONDS * sample_rate:",
        "if num_samples < 0:",
        "data/audio/decoding/test_reasons.py::test_less_than_a_tenth_of_a_second_is_not_a_song",
    ),
    Fault(
        "a rate in kHz is taken for one in Hz",
        "musictag/data/audio/decode.py",
        "not isinstance(rate, numbers.Real) or not RATES[0] <= rate <= RATES[1]",
        "not isinstance(rate, numbers.Real)",
        "data/audio/test_decode.py::test_an_impossible_rate_is_refused_at_once",
    ),
    Fault(
        "every song of a catalogue has every tag",
        "musictag/data/catalogue/making/make.py",
        "chosen.has[:, at].astype(np.uint8)",
        "np.ones(len(chosen.songs), dtype=np.uint8)",
        "data/catalogue/making/test_label_folders.py::test_a_folder_per_genre_is_a_catalogue_that_trains",
    ),
    Fault(
        "a catalogue that exists is replaced",
        "musictag/data/catalogue/making/make.py",
        "    if out.exists() and not force:\n",
        "    if False:\n",
        "data/catalogue/making/test_label_folders.py::test_no_file_is_overwritten_unless_forced",
    ),
    Fault(
        "rows of other songs count for a song",
        "musictag/data/catalogue/making/cells.py",
        "for row in np.flatnonzero(values != 1).tolist():",
        "for row in np.flatnonzero(values == 1).tolist():",
        "data/catalogue/making/test_label_tables.py::test_one_row_per_pair_with_a_value",
    ),
    Fault(
        "tags that were asked for by name are left out without an error",
        "musictag/data/catalogue/learnable.py",
        "        if self._wanted is not None:\n            raise",
        "        if False:\n            raise",
        "data/catalogue/test_learnable.py::test_requested_tags_are_refused_instead_of_left_out",
    ),
)
