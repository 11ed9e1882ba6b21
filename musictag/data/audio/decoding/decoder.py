"""Decoding a file with whichever decoder can: all of its audio as blocks, or the reason why it cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from musictag.common.errors import SongError
from musictag.data.audio.decoding.chunks import look_through
from musictag.data.audio.decoding.containers import DecodedLink, duration, packets, probe
from musictag.data.audio.decoding.formats import AIFF, FLAC, OGG, WAV, Format, how_to_convert, recognise
from musictag.data.audio.decoding.gathering import Block
from musictag.data.audio.decoding.links import find_links
from musictag.data.audio.decoding.lost_audio import (
    LARGEST_LOST_SHARE,
    MAX_HOURS,
    TOLERATED_BYTES,
    TOLERATED_SECONDS,
    Loss,
    Undecodable,
)
from musictag.data.audio.decoding.pcm import plain_blocks
from musictag.data.audio.decoding.tags import Link, without_tags
from musictag.data.audio.decoding.window import Window


def decode(file: BinaryIO, loss: Loss) -> Iterator[Block]:
    """Yield all blocks of a file in order; afterwards ``loss`` says what could not be used.

    Raises SongError for a file that is not audio, ends before its declared length, or is damaged beyond what ``Loss``
    allows; and its subclass Undecodable for what another decoder might read.
    """
    whole, form = _look_at(file, loss)
    if form in (WAV, AIFF):
        yield from _chunked(file, form, whole, loss)
        return
    if form is None or form.plain:  # libsndfile knows a dozen rare formats
        try:
            yield from plain_blocks(file)
            return
        except Undecodable as error:
            if form is None:
                raise Undecodable(f"its format is not recognised; {how_to_convert()}") from error
    yield from _links(file, form, whole, loss)


def declared_seconds(file: BinaryIO) -> float:
    """The length that a file declares, which may be wrong; NaN if it declares none. Raises SongError for no audio."""
    whole, form = _look_at(file, Loss())
    return duration(file, form, whole) if form else float("nan")


def audio_bytes(file: BinaryIO) -> Iterator[bytes]:
    """The audio of a file as it is stored, without the tags around and in it; raises SongError if there is none."""
    link, form = _look_at(file, Loss())
    if form is None or form is FLAC or not form.framed:  # elsewhere than around the audio, tags may be anywhere
        yield from packets(file, form, link)
        return
    file.seek(link.begin)
    while file.tell() < link.end:
        yield file.read(min(2**20, link.end - file.tell()))


def _look_at(file: BinaryIO, loss: Loss) -> tuple[Link, Format | None]:
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise SongError("empty file")
    whole = without_tags(file, Link(0, size))
    if whole.begin >= whole.end:
        raise SongError("contains tags, but no audio")
    form, begin = recognise(file, *whole)
    if form is None:
        form = probe(file, whole)
    file.seek(whole.begin)
    loss.bytes += len(file.read(begin - whole.begin).lstrip(b"\0"))  # zeros are the preceding tag's padding
    return Link(begin, whole.end), form


def _links(file: BinaryIO, form: Format, whole: Link, loss: Loss) -> Iterator[Block]:
    """Decode all links of a file with FFmpeg."""
    links, cut = find_links(file, form, whole, loss)
    done: list[DecodedLink] = []
    problem, lost_bytes = None, 0
    for link in links:
        decoded = DecodedLink(file, form, link)
        try:
            yield from decoded.blocks()
            loss.add(decoded.loss)
        except Undecodable as error:
            if decoded.seconds:
                raise
            problem = problem or error
            lost_bytes += link.end - link.begin
        done.append(decoded)
    read_seconds = sum(link.seconds for link in done)
    if not read_seconds and cut:
        raise SongError("cut short: the file ends before a part that it declares")
    # between frames, non-audio bytes are rubbish; elsewhere, they are a part of the song
    too_much = not form.framed and lost_bytes > LARGEST_LOST_SHARE * (whole.end - whole.begin)
    if problem and (too_much or not read_seconds):
        raise problem
    loss.bytes += lost_bytes
    _check_lengths(done, form, cut, loss)
    loss.check(read_seconds)


def _check_lengths(links: list[DecodedLink], form: Format, cut: bool, loss: Loss) -> None:
    """Compare the decoded lengths with those that headers declare. Raises SongError for a file that is cut short.

    The first header of a joined file may include the links after it.
    """
    behind, known = 0.0, False
    for link in reversed(links):
        behind += max(link.frame_seconds, link.seconds)
        missing = link.declared_seconds - behind
        known |= link.declared_seconds <= MAX_HOURS * 3600
        if not TOLERATED_SECONDS + link.padding_seconds < missing <= MAX_HOURS * 3600:
            continue
        if form is OGG:  # it declares no length: the last page has it
            loss.seconds = max(loss.seconds, missing)
        elif link.complete_bytes or (link.seconds_of_holes and link.complete_bytes is None and not cut):
            loss.seconds = max(loss.seconds, min(missing, link.seconds_of_holes))
        else:
            raise SongError(f"cut short: {missing:.1f} s are missing")
    if cut and (form is OGG or not known):
        raise SongError("cut short: the file ends before a part that it declares")


def _chunked(file: BinaryIO, form: Format, link: Link, loss: Loss) -> Iterator[Block]:
    """Decode a WAV or AIFF, and any joined to it."""
    while link.begin < link.end:
        chunks = look_through(file, form, link)
        this, link = Link(link.begin, chunks.end), Link(chunks.end, link.end)
        is_joined = link.begin < link.end and _begins_chunks(file, form, link)
        # libsndfile reads on beyond this link, and takes the byte order from the last header
        in_order = not (chunks.patches or this.begin or is_joined)
        try:
            yield from plain_blocks(file if in_order else Window(file, this, chunks.patches))
        except Undecodable:
            decoded = DecodedLink(file, form, this)
            yield from decoded.blocks()
            loss.add(decoded.loss)
            if chunks.missing_bytes:
                raise SongError(f"cut short: {chunks.missing_bytes:,} bytes are missing") from None
        if link.begin < link.end and not is_joined:
            _check_rest(file, this, link)
            loss.bytes += link.end - link.begin
            return


def _begins_chunks(file: BinaryIO, form: Format, link: Link) -> bool:
    try:
        return recognise(file, *link) == (form, link.begin)
    except SongError:
        return False


def _check_rest(file: BinaryIO, audio: Link, rest: Link) -> None:
    """Raises SongError if so much follows the declared end that it may well be the rest of the song."""
    size = rest.end - rest.begin
    if size <= max(TOLERATED_BYTES, LARGEST_LOST_SHARE * (audio.end - audio.begin)):
        return
    file.seek(rest.begin)
    sample = file.read(2**20)
    if sample.count(0) < 0.9 * len(sample):
        raise SongError(f"its header is wrong: {size:,} bytes follow the end of the audio that it declares")
