"""From the bytes of an audio file to samples: recognise the format, find the streams, and decode them.

decoder.py chooses the way. formats.py recognises a file by its own bytes, tags.py finds the tags at both ends, links.py
the files that were joined into one, and window.py shows a decoder only its part. containers.py decodes with FFmpeg's
libraries (PyAV): headers.py reads what they do not pass on, gathering.py makes blocks of their frames. pcm.py reads
plain samples with libsndfile; chunks.py follows the chunks of WAV and AIFF. program.py falls back on an installed
ffmpeg. lost_audio.py records what could not be used.
"""
