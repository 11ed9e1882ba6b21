"""Faults of whole libraries: what is analysed again, what is written into files, what is taken back."""

from tests.mutants.faults import Fault

FAULTS = (
    Fault(
        "a song is known by its name",
        "musictag/library/analyse.py",
        "row = known.same_content(facts[0])",
        "row = known._rows.get(path)",
        "cli/test_tag_library.py::test_songs_are_analysed_once_by_content",
    ),
    Fault(
        "tags inside a file count as its content",
        "musictag/library/content.py",
        "            for part in audio_bytes(file):\n",
        "            for part in file:\n",
        "library/test_writing.py::test_written_read_and_taken_back",
    ),
    Fault(
        "results of another analysis are mixed in",
        "musictag/library/tags_file.py",
        "if others := found - {self.analysis}:",
        "if others := found - {self.analysis} - found:",
        "library/test_tags_file.py::test_what_cannot_be_continued_is_refused_and_stays",
    ),
    Fault(
        "half a line is kept",
        "musictag/library/tags_file.py",
        "        self._file.truncate(end)\n        self._file.seek(end)\n",
        "        self._file.seek(0, 2)\n",
        "library/test_tags_file.py::test_rows_stay_and_are_continued",
    ),
    Fault(
        "an entry is written over",
        "musictag/library/writing.py",
        "if not new or (before and existing == KEEP):",
        "if not new:",
        "library/test_writing.py::test_an_entry_stays_unless_told_otherwise",
    ),
    Fault(
        "a file is changed whatever happens to its audio",
        "musictag/library/writing.py",
        "if content_key(copy) != content_key(real):",
        "if not content_key(copy):",
        "library/test_writing.py::test_whatever_fails_leaves_the_file_as_it_was",
    ),
    Fault(
        "hard links are torn apart",
        "musictag/library/writing.py",
        "if status.st_nlink > 1:",
        "if status.st_nlink > 9:",
        "library/test_writing.py::test_files_that_are_left_alone",
    ),
    Fault(
        "the first change is taken back first",
        "musictag/library/writing.py",
        "for entry in reversed(list(_entries(path))):",
        "for entry in list(_entries(path)):",
        "library/test_writing.py::test_written_read_and_taken_back",
    ),
    Fault(
        "frames of other fields go",
        "musictag/library/fields.py",
        "if not frame.desc]",
        "]",
        "library/test_writing.py::test_id3_2_3_stays_2_3_and_nothing_else_changes",
    ),
    Fault(
        "the truth of another song of the same name",
        "musictag/library/truth.py",
        "_manifest.paths[row]) == content:",
        "_manifest.paths[row]):",
        "library/test_truth.py::test_a_copy_is_known_by_its_audio",
    ),
    Fault(
        "a threshold shuts out what reaches it",
        "musictag/library/choice.py",
        "wanted[name] >= self.threshold",
        "wanted[name] > self.threshold",
        "library/test_tags_file.py::test_choices",
    ),
    Fault(
        "an error in a batch costs all songs in it",
        "musictag/inference/over_patches.py",
        "            return [error] * len(batch) if len(songs) == 1 else",
        "            return [error] * len(batch) if songs else",
        "inference/test_many_songs.py::test_a_batch_holds_patches_of_several_songs_and_an_error_costs_one",
    ),
)
