"""Unusable files say why, in words that their owner understands; partly usable files say what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag import cli
from musictag.cli.prepare import summary
from musictag.common.errors import SongError, SongWarning
from musictag.data.audio.decode import read, read_song
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from musictag.inference.network_tagger import NetworkTagger
from tests.data.audio.test_decode import RATE, tone
from tests.helpers.audio_files import ENCODINGS, encoded
from tests.helpers.catalogues import read_rows, write_table
from tests.helpers.experiments import ROOT
from tests.inference.test_tagger import make_network, save

NO_AUDIO = {
    "an HTML page": (b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>", "a web page"),
    "HTML in capitals": (b"\n\n  <HTML><BODY>Please log in</BODY></HTML>", "a web page"),
    "XHTML": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">', "a web page"),
    "an S3 error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a page of markup (XML)"),
    "JSON": (b'{"error": "quota exceeded"}', "text"),
    "words": ("Für Elise, gespielt von … \n".encode() * 99, "text"),
    "PDF": (b"%PDF-1.7\n" + bytes(range(256)), "a PDF document"),
    "ZIP": (b"PK\3\4" + bytes(range(256)), "a ZIP archive: unpack it first"),
    "gzip": (b"\x1f\x8b\x08" + bytes(range(256)), "a compressed archive: unpack it first"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "a picture"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)), "a picture"),
    "MIDI": (b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk", "MIDI, which holds notes, not sound"),
    "a playlist": (b"#EXTM3U\n#EXTINF:10,\nhttp://localhost/a.mp3\n", "a playlist, which only names other files"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
    "a page behind a tag": (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + b"<html>404</html>", "a web page"),
}


@pytest.mark.parametrize(("content", "what"), NO_AUDIO.values(), ids=NO_AUDIO)
@pytest.mark.parametrize("name", ["song.mp3", "song.wav"])
def test_files_that_are_not_audio_are_identified(content: bytes, what: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SongError) as caught:
        read(path)
    assert str(caught.value).startswith(f"cannot be read as audio: it is {what}")


@pytest.mark.parametrize("content", [b"FLV\1\5" + bytes(99), b"RIFF\x99\0\0\0AVI LIST" + bytes(99), b"OFR \x0f" * 9])
def test_an_unsupported_format_says_how_to_convert_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(content)
    with pytest.raises(SongError, match=r"which is not supported; convert it, .*: ffmpeg -i FILE song\.flac$"):
        read(path)
    path.write_bytes(b"\x01\x02\x03\x04\xfe" * 5000)
    with pytest.raises(SongError, match=r"format is not recognised; convert it"):
        read(path)


def test_an_empty_file_is_empty_whatever_its_name(tmp_path: Path) -> None:
    for name in ("a.mp3", "a.wav", "a.m4a", "a"):
        (tmp_path / name).touch()
        with pytest.raises(SongError, match=r"^empty file$"):
            read(tmp_path / name)


def opposite(rate: int = 44100) -> np.ndarray:
    left = tone(2, rate) * np.linspace(0.1, 1, 2 * rate)
    return np.stack([left, -left], axis=1)


@pytest.mark.parametrize("suffix", [".wav", ".ogg", *(s for s in ENCODINGS if s not in (".webm", ".opus"))])
def test_channels_that_cancel_each_other_are_not_silent(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in (".wav", ".ogg"):
        soundfile.write(path, opposite(), 44100)
    else:
        path.write_bytes(encoded(suffix, opposite(), 44100, 128_000))
    with pytest.raises(SongError, match="its channels cancel each other"):
        read(path)


def test_channels_that_cancel_each_other_in_part_are_a_song(tmp_path: Path) -> None:
    song = opposite(RATE)
    song[:, 1] += 0.02 * tone(2, RATE, 880)
    song[-RATE // 2 :, 1] = song[-RATE // 2 :, 0]
    soundfile.write(tmp_path / "a.wav", song, RATE)
    assert len(read(tmp_path / "a.wav").samples) == 2 * RATE
    soundfile.write(tmp_path / "a.wav", np.zeros((RATE, 2)), RATE)
    with pytest.raises(SongError, match=r"^silent$"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".m4a"])
def test_less_than_a_tenth_of_a_second_is_not_a_song(suffix: str, tmp_path: Path) -> None:
    def written(seconds: float) -> Path:
        path = tmp_path / f"a{suffix}"
        if suffix == ".wav":
            soundfile.write(path, tone(seconds, 44100), 44100)
        else:
            path.write_bytes(encoded(suffix, tone(seconds, 44100), 44100, 128_000))
        return path

    with pytest.raises(SongError, match=r"^0\.0\d\d s of audio is too short; 0\.1 s are needed$"):
        read(written(0.03))
    assert len(read(written(0.11)).samples) >= 0.1 * RATE


def with_rubbish(path: Path) -> None:
    path.write_bytes(encoded(".mp3", tone(2, 44100), 44100) + bytes(20_000))


def test_skipped_bytes_are_in_the_list_of_problems(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_catalogue)
    with_rubbish(tiny_catalogue.parent / rows[0]["path"])
    (tiny_catalogue.parent / rows[1]["path"]).write_bytes(b"")
    soundfile.write(tiny_catalogue.parent / rows[2]["path"], tone(0.05, RATE), RATE)
    for workers in (1, 2):
        prepared = prepare(CatalogueFile(tiny_catalogue), tmp_path / f"data-{workers}", workers=workers)
        note = "20,000 bytes that are not audio were skipped"
        assert prepared.notes == [(rows[0]["song_id"], rows[0]["path"], note)]
        assert [song_id for song_id, _, _ in prepared.problems] == [rows[1]["song_id"], rows[2]["song_id"]]
        listed = {
            row["song_id"]: (row["used"], row["reason"]) for row in read_rows(prepared.store.folder / "problems.csv")
        }
        assert listed == {
            rows[0]["song_id"]: ("yes", note),
            rows[1]["song_id"]: ("no", "empty file"),
            rows[2]["song_id"]: ("no", "0.050 s of audio is too short; 0.1 s are needed"),
        }
        assert len(prepared.manifest) == 22
        assert "2 songs cannot be used, 1 are used although parts of their files could not be read; " in summary(
            prepared
        )
    # prepared songs are remembered
    assert len(prepare(CatalogueFile(tiny_catalogue), tmp_path / "data-1").notes) == 1


def test_tagging_warns_with_the_name_of_the_song(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with_rubbish(path)
    with pytest.warns(SongWarning, match=r"/song\.mp3: 20,000 bytes that are not audio were skipped$"):
        NetworkTagger(make_network()).tag(path)
    with pytest.warns(SongWarning, match="20,000 bytes"):
        assert abs(len(read_song(path)) - 2 * RATE) < 0.02 * RATE


def test_libraries_print_nothing_about_a_song(tmp_path: Path) -> None:
    """Whatever goes wrong inside libraries, the terminal only shows our messages, which name the song."""
    model = save(tmp_path / "tagger.safetensors", make_network())
    rng = np.random.default_rng(0)
    names = []
    for number, suffix in enumerate((*ENCODINGS, ".wav", ".ogg", ".mp3")):
        path = tmp_path / f"{number}{suffix}"
        if suffix in ENCODINGS:
            path.write_bytes(encoded(suffix, tone(1, 48000), 48000, 128_000))
        else:
            soundfile.write(path, tone(1, 44100), 44100)
        data = bytearray(path.read_bytes())
        for _ in range(20):
            data[rng.integers(len(data) // 3, len(data))] = rng.integers(256)
        path.write_bytes(data[: len(data) * 9 // 10])
        names.append(str(path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "musictag.cli", "tag", *names, "--model", str(model), "--json"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1)
    for line in done.stderr.splitlines():
        assert any(line.startswith(f"musictag: {name}: ") for name in names), line


PROGRAM = """#!{python}
import sys, time
arguments = sys.argv[1:]
assert arguments[arguments.index("-protocol_whitelist") + 1] == "file"
path = arguments[arguments.index("-i") + 1].removeprefix("file:")
sys.stderr.write({says!r})
sys.stderr.flush()
if {waits}:
    time.sleep(60)
import numpy as np, struct
data = open(path, "rb").read().removeprefix(b"OFR ")
rate, channels = {rate}, 2
out = sys.stdout.buffer
head = struct.pack("<IHHIIHH", 16, 3, channels, rate, 4 * channels * rate, 4 * channels, 32)
out.write(b"RIFF\\xff\\xff\\xff\\xffWAVEfmt " + head + b"LIST" + struct.pack("<I", 6) + b"abcdef")
out.write(b"data\\xff\\xff\\xff\\xff" + np.frombuffer(data, "<i2").astype("<f4").__truediv__(32768).repeat(2).tobytes())
out.flush()
sys.exit({status})
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a program named ffmpeg on the PATH that reads its own format."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(says: str = "", waits: bool = False, status: int = 0, rate: int = RATE) -> None:
        path = folder / "ffmpeg"
        path.write_text(PROGRAM.format(python=sys.executable, says=says, waits=waits, status=status, rate=rate))
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return install


NOISE = np.random.default_rng(0).integers(-20000, 20000, 2 * RATE).astype("<i2")


def own_format(path: Path) -> Path:
    path.write_bytes(b"OFR " + NOISE.tobytes())
    return path


def test_an_installed_ffmpeg_is_asked_last(program: Callable[..., None], tmp_path: Path) -> None:
    for name in ("song.ofr", "-i odd; touch $(name) 'x'.ofr", "\udce9.ofr"):
        path = own_format(tmp_path / name)
        program()
        samples, note = read(path)
        np.testing.assert_array_equal(samples, NOISE)
        assert note == "decoded by the program ffmpeg"
    np.testing.assert_array_equal(read(path, max_seconds=0.5).samples, NOISE[: RATE // 2])
    program(rate=2 * RATE)
    assert len(read(path).samples) == RATE
    # it is not called for files that our decoders read, or know not to be audio
    program(status=1)
    soundfile.write(tmp_path / "a.wav", NOISE, RATE)
    np.testing.assert_array_equal(read(tmp_path / "a.wav").samples, NOISE)
    (tmp_path / "a.wav").write_bytes(b"<html>")
    with pytest.raises(SongError, match=r"^cannot be read as audio: it is a web page$"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"status": 3}, r"; the program ffmpeg says: status 3$"),
        ({"status": 1, "says": "no such\nthing"}, r"; the program ffmpeg says: no such thing$"),
        ({"says": "partial file " * 100_000}, r"; the program ffmpeg says: partial file partial"),
    ],
)
def test_a_program_that_fails_does_not_help(
    options: dict, reason: str, program: Callable[..., None], tmp_path: Path
) -> None:
    program(**options)
    with pytest.raises(SongError, match=r"^cannot be read as audio: OptimFROG, which is not supported.*" + reason):
        read(own_format(tmp_path / "song.ofr"))


def test_a_program_that_takes_too_long_is_ended(
    program: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(waits=True)
    monkeypatch.setattr("musictag.data.audio.decoding.program.TIME_LIMIT_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(SongError, match=r"the program ffmpeg took more than 0\.5 s"):
        read(own_format(tmp_path / "song.ofr"))
    assert time.monotonic() - began < 10


def test_a_program_that_cannot_be_started_does_not_help(program: Callable[..., None], tmp_path: Path) -> None:
    program()
    (tmp_path / "bin" / "ffmpeg").write_text("#!/nowhere/at/all\n")
    with pytest.raises(SongError, match=r"ffmpeg cannot be started \(No such file or directory\)"):
        read(own_format(tmp_path / "song.ofr"))
    assert shutil.which("ffmpeg")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(12, "Cannot allocate memory"), r"cannot be read \(Cannot"),
        (MemoryError(), "needs more memory"),
    ],
)
def test_a_machine_without_room_for_the_program_costs_one_song(
    program: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    program()
    monkeypatch.setattr("musictag.data.audio.decode.program_blocks", fails)
    with pytest.raises(SongError, match=f"^{reason}"):
        read(own_format(tmp_path / "song.ofr"))


def test_the_command_line_tags_what_the_library_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path / "tagger.safetensors", make_network())
    path = tmp_path / "song.mp3"
    path.write_bytes(encoded(".m4a", tone(2, 44100), 44100))
    assert cli.main(["tag", str(path), "--model", str(model), "--json"]) == 0
    assert str(path) in capsys.readouterr().out


def test_a_table_of_other_formats_is_prepared(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_catalogue)
    for row, suffix in zip(rows, (s for s in ENCODINGS if s not in (".webm", ".opus")), strict=False):
        name = f"audio/x{suffix}"
        (tiny_catalogue.parent / name).write_bytes(encoded(suffix, tone(1, 44100), 44100, 128_000))
        row["path"] = name
    write_table(tiny_catalogue, rows)
    prepared = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", workers=2)
    assert (len(prepared.manifest), prepared.problems, prepared.notes) == (24, [], [])
