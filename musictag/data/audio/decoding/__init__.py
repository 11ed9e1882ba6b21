"""From the bytes of an audio file to samples: recognise the format, find the streams, and decode them.

formats.py recognises a file by its own bytes, links.py finds the streams in it (tags at both ends, joined files),
containers.py decodes them with FFmpeg's libraries (PyAV), pcm.py reads plain samples with libsndfile, and program.py
falls back on an installed ffmpeg. loss.py records what could not be used.
"""
