"""Decoding with FFmpeg's libraries (PyAV): a link of a file becomes blocks of samples and a record of the rest."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import av

from musictag.data.audio.decoding.formats import ASF, FLAC, MATROSKA, MP3, MP4, OGG, PROBED, Format
from musictag.data.audio.decoding.gathering import Block, Gathered
from musictag.data.audio.decoding.headers import largest_flac_frame, read_length, samples_per_frame
from musictag.data.audio.decoding.lost_audio import TOLERATED_SECONDS, Loss, Undecodable
from musictag.data.audio.decoding.tags import Link
from musictag.data.audio.decoding.window import Window

#: The decoders in use. No other one, and so no image or video decoder, is opened while a container is probed.
_CODECS = (
    "aac,aac_latm,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,alac,amrnb,amrwb,ape,als,dca,dsd_lsbf,dsd_lsbf_planar,"
    "dsd_msbf,dsd_msbf_planar,eac3,flac,gsm,gsm_ms,libopencore_amrnb,libopencore_amrwb,libopus,mlp,mp1,mp1float,mp2,"
    "mp2float,mp3,mp3float,mpc7,mpc8,opus,pcm_alaw,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,"
    "pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,pcm_s8,pcm_u8,speex,tak,truehd,tta,vorbis,wavpack,wmalossless,"
    "wmapro,wmav1,wmav2,wmavoice"
)
#: A change of parameters between frames is believed after this many frames. A few bytes of rubbish may look like the
#: beginning of a frame, but hardly ever like the same frame several times in a row.
_BELIEVED_FRAMES = 8
#: Formats whose header declares the length of a stream; in the next two, of the whole file.
_DECLARE_FOR_ALL = (MATROSKA, ASF)
#: The most padding that encoders add before and after the audio.
_PADDING_FRAMES = 3
_DECLARE = (FLAC.name, MP4.name, OGG.name, "WavPack", "Monkey's Audio", "True Audio")
#: After this many packets without audio, decoding stops.
_HOPELESS_PACKETS = 2000


class DecodedLink:
    """One link; its attributes are complete after its ``blocks`` have been read.

    ``seconds`` were decoded, ``frame_seconds`` include the padding that encoders add; ``declared_seconds`` are promised
    by the header (NaN: none), and ``complete_bytes`` says whether all of their bytes are present (None: unknown).
    """

    def __init__(self, file: BinaryIO, form: Format, link: Link) -> None:
        self._file, self._form, self._link = file, form, link
        self._window = Window(file, link)
        self.loss = Loss()
        self.seconds = self.frame_seconds = 0.0
        self.declared_seconds = float("nan")
        self.complete_bytes: bool | None = None
        #: padding that the declared length may include, and that is not played
        self.padding_seconds = 0.0
        #: may be missing although the file is whole, judged by the bytes that gave no audio
        self.seconds_of_holes = 0.0
        self._audio_bytes = self._bytes_to_last_audio = self._first_byte = 0

    def blocks(self) -> Iterator[Block]:
        """Raises Undecodable if the link cannot be opened, or nothing in it is audio."""
        with _opened(self._window, self._form) as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise Undecodable("it contains no sound")
            context = stream.codec_context
            if context is None or context.name not in _CODECS.split(","):
                raise Undecodable(f"its audio codec is not supported ({context.name if context else 'unknown'})")
            if others := len(container.streams.audio) - 1:
                self.loss.remarks.append(f"{others} more audio track{'s' * (others > 1)}, not read")
            context.thread_count = 1
            gathered = Gathered(_BELIEVED_FRAMES if self._form.framed else 1)
            if context.name == "flac":
                context.options = {"err_detect": "crccheck+explode"}
            elif context.name == "vorbis" and self._form is OGG and len(container.streams) == 1:
                # FFmpeg misplaces the end of Vorbis by a block: the last page has the true one
                context.options = {"flags2": "+skip_manual"}
                gathered = Gathered(1, priming_frames=1, most_samples=_last_position(self._window))
            for block, rate in self._gather(container, stream, gathered):
                self.seconds += len(block) / rate
                yield block, rate
            self.loss.seconds += gathered.dropped_seconds
            self._note_length(container, stream)
        if not self.seconds:
            raise Undecodable("no audio was found in it")

    def _gather(self, container: av.container.InputContainer, stream: av.AudioStream, to: Gathered) -> Iterator[Block]:
        try:
            for frames in self._frames(container, stream):
                for frame in frames:
                    if blocks := to.add(frame):
                        yield from blocks
            yield from to.finish()
        except (av.FFmpegError, ValueError) as error:
            raise Undecodable(_reason(error)) from error

    def _frames(self, container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[list[av.AudioFrame]]:
        """The frames of every packet; records what cannot be decoded."""
        # this loop takes as long as decoding a short frame: what it looks up is looked up once
        context, window, framed = stream.codec_context, self._window, self._form.framed
        largest = largest_flac_frame(_read(window, 0, 4096)) if self._form is FLAC else window.size
        most_packets = window.size + 10_000
        time_base = float(stream.time_base)  # fractions would be slower than decoding
        packets = num_bytes = hopeless = 0
        try:
            for packet in container.demux(stream):
                size, seconds = packet.size, (packet.duration or 0) * time_base
                packets += 1
                num_bytes += size
                if window.exhausted or packets > most_packets:
                    raise Undecodable("it has 64 MB without audio, or parts that refer to each other in circles")
                if packets == 1:
                    self._first_byte = packet.pos or 0
                try:
                    frames = context.decode(packet)
                except EOFError:
                    frames = []  # read past the end
                except av.FFmpegError as error:
                    _reason(error)  # a lack of memory is not the packet's fault
                    if size:
                        self.loss.seconds += seconds
                        hopeless += 1
                    if hopeless > _HOPELESS_PACKETS and not self.frame_seconds:
                        return
                    continue
                if size:
                    # bytes between frames, or after the last one, arrive with a frame
                    self._audio_bytes += min(largest, _without_padding(packet, size) if framed else size)
                    self.frame_seconds += seconds
                    self._bytes_to_last_audio = num_bytes
                if frames:
                    window.found_audio()
                    yield frames
        except av.FFmpegError as error:
            self.loss.remarks.append(f"FFmpeg stopped before its end ({_reason(error)})")

    def _note_length(self, container: av.container.InputContainer, stream: av.AudioStream) -> None:
        """Record how long the link claims to be, and which of its bytes are neither header nor audio."""
        header = self._first_byte
        if self._form is MP3:
            length = read_length(_read(self._window, 0, 4096))
            if length is None:
                header = 0
            elif length[0]:
                (frames, size), rate = length, stream.codec_context.sample_rate
                self.declared_seconds = frames * samples_per_frame(rate) / rate
                if size:
                    self.complete_bytes = size <= self._window.size
        elif self._form.name in _DECLARE and stream.duration:
            self.declared_seconds = float(stream.duration * stream.time_base)
            if self._form is MP4:
                self._note_hidden(stream)
        elif self._form in _DECLARE_FOR_ALL and len(container.streams) == 1 and container.duration:
            self.declared_seconds = container.duration / av.time_base
            context = stream.codec_context
            self.padding_seconds = _PADDING_FRAMES * context.frame_size / context.sample_rate
        if self._form.framed:
            self.loss.bytes += max(0, self._window.size - header - self._audio_bytes)
        # a gap may reach to the end only if all bytes are known to be present
        hole_bytes = self.loss.bytes if self.complete_bytes else self._bytes_to_last_audio - self._audio_bytes
        if hole_bytes and self._audio_bytes:
            # the rubbish, and the frames around it
            self.seconds_of_holes = 2 * self.frame_seconds * hole_bytes / self._audio_bytes + TOLERATED_SECONDS

    def _note_hidden(self, stream: av.AudioStream) -> None:
        """Record what an MP4's edit list hides from playback."""
        with _opened(Window(self._file, self._link), MP4, ignore_editlist="1") as container:
            whole = container.streams[stream.index]
            hidden = float((whole.duration or 0) * whole.time_base) - self.declared_seconds
        padding = _PADDING_FRAMES * stream.codec_context.frame_size / stream.codec_context.sample_rate
        if hidden > TOLERATED_SECONDS + padding:
            self.loss.remarks.append(f"{hidden:.1f} s left out, as the file's edit list demands")


def probe(file: BinaryIO, link: Link) -> Format | None:
    """The format of frames that begin somewhere in a link, or None if FFmpeg finds none."""
    try:
        with _opened(Window(file, link), None) as container:
            return PROBED[container.format.name]
    except Undecodable:
        return None


def duration(file: BinaryIO, form: Format, link: Link) -> float:
    """The length in seconds by a link's header or bit rate, which may be wrong; NaN if unknown. Raises Undecodable."""
    with _opened(Window(file, link), form) as container:
        return container.duration / av.time_base if container.duration else float("nan")


def packets(file: BinaryIO, form: Format | None, link: Link) -> Iterator[bytes]:
    """What the audio of a link is, then its packets, without decoding them; raises Undecodable if it has none."""
    window = Window(file, link)
    with _opened(window, form) as container:
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            raise Undecodable("it contains no sound")
        context = stream.codec_context
        yield f"{context.name} {context.sample_rate} {context.layout.nb_channels}".encode()
        try:
            for packet in container.demux(stream):
                if packet.size:
                    window.found_audio()
                    yield bytes(packet)
        except (av.FFmpegError, ValueError) as error:
            raise Undecodable(_reason(error)) from error


def _read(window: Window, begin: int, size: int) -> bytes:
    """Bytes from anywhere, after which reading goes on as before."""
    place = window.tell()
    window.seek(begin)
    content = window.read(size)
    window.seek(place)
    return content


def _last_position(window: Window) -> int | None:
    """The number of samples at which an Ogg stream ends, by its last page; None if it does not say."""
    tail = _read(window, max(0, window.size - 2**17), 2**17)
    page = tail.rfind(b"OggS")
    position = int.from_bytes(tail[page + 6 : page + 14], "little", signed=True) if page >= 0 else -1
    return position if position > 0 else None


@contextmanager
def _opened(window: Window, form: Format | None, **options: str) -> Iterator[av.container.InputContainer]:
    options |= {"codec_whitelist": _CODECS, "protocol_whitelist": "none", "max_streams": "64"}
    if form is None:
        options["format_whitelist"] = ",".join(PROBED)
    try:
        container = av.open(window, format=form and form.demuxer, container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise Undecodable(_reason(error)) from error
    with container:
        yield container


def _without_padding(packet: av.Packet, size: int) -> int:
    """Bytes of a packet without the leading zeros, which the decoder skips silently."""
    return size if memoryview(packet)[0] else len(bytes(packet).lstrip(b"\0"))


def _reason(error: Exception) -> str:
    """FFmpeg's error, phrased for the owner of a song. Raises MemoryError if that is the cause."""
    if getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error
    if isinstance(error, EOFError):
        return "it ends before its audio begins"
    if isinstance(error, av.InvalidDataError):
        return "its header is damaged"
    return str(getattr(error, "strerror", None) or error)
