"""The last resort for decoding: an installed program named ffmpeg."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from musictag.data.audio.decoding.gathering import Block
from musictag.data.audio.decoding.lost_audio import Loss, Undecodable

#: Time limit for one song, after which the program is ended.
TIME_LIMIT_SECONDS = 300
#: Memory that ffmpeg may allocate in one piece; audio never needs as much.
_MOST_BYTES_AT_ONCE = 2**28
_BLOCK_BYTES = 2**20
_MOST_WORDS = 2000
#: Demuxers for audio and its containers, without any that open other files or hosts.
_DEMUXERS = (
    "aac,ac3,adx,aea,aiff,amr,ape,aptx,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,mlp,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,matroska,nut,ogg,oma,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wv,xwma"
)


def program_blocks(program: str, path: Path, loss: Loss) -> Iterator[Block]:
    """Yield the samples of a file as ``program`` decodes them: a WAV stream that is read as it arrives.

    Raises Undecodable if it fails, reports damage, or takes too long.
    """
    command = [
        program, "-nostdin", "-hide_banner", "-v", "error", "-max_alloc", str(_MOST_BYTES_AT_ONCE), "-threads", "1",
        "-protocol_whitelist", "file", "-format_whitelist", _DEMUXERS, "-i", f"file:{os.path.abspath(path)}",
        "-map", "0:a:0", "-vn", "-sn", "-dn", "-f", "wav", "-c:a", "pcm_f32le", "pipe:1",
    ]  # fmt: skip
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise Undecodable(f"{program} cannot be started ({error.strerror})") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer, words = threading.Timer(TIME_LIMIT_SECONDS, end), bytearray()
    reader = threading.Thread(target=_drain, args=(process.stderr, words), daemon=True)
    timer.start()
    reader.start()
    try:
        yield from _wav_blocks(process.stdout)
        status = process.wait()
        reader.join()
        said = " ".join(words.decode(errors="replace").split())[:200]
        if late.is_set():
            raise Undecodable(f"the program ffmpeg took more than {TIME_LIMIT_SECONDS} s")
        if status or said:
            raise Undecodable(f"the program ffmpeg says: {said or f'status {status}'}")
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
    loss.remarks.append("decoded by the program ffmpeg")


def _wav_blocks(stream: IO[bytes]) -> Iterator[Block]:
    """Blocks of a float WAV stream whose header declares no length."""
    channels, rate = _header(stream)
    if not channels:
        return
    size = max(1, _BLOCK_BYTES // (4 * channels)) * 4 * channels
    while data := stream.read(size):
        whole = len(data) - len(data) % (4 * channels)
        yield np.frombuffer(data[:whole], dtype="<f4").reshape(-1, channels), rate


def _header(stream: IO[bytes]) -> tuple[int, int]:
    """Channels and rate, after which the samples follow; zeros if the stream is not a WAV."""
    channels = rate = 0
    if stream.read(12)[8:] != b"WAVE":
        return 0, 0
    while len(head := stream.read(8)) == 8 and head[:4] != b"data":
        content = stream.read(int.from_bytes(head[4:], "little"))
        if head[:4] == b"fmt ":
            channels, rate = int.from_bytes(content[2:4], "little"), int.from_bytes(content[4:8], "little")
    return channels, rate


def _drain(stream: IO[bytes], words: bytearray) -> None:
    """Keep the beginning of the program's messages, and drain the rest."""
    with stream:
        while data := stream.read(4096):
            words += data[: _MOST_WORDS - len(words)]
