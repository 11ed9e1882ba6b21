"""From the bytes of an audio file to samples: which format it is, where its streams lie, and who decodes them.

formats.py recognises a file by its own bytes, links.py finds the streams in it (tags at both ends, files that were
joined), containers.py decodes them with FFmpeg's libraries (PyAV), pcm.py plain samples with libsndfile, and program.py
asks an installed ffmpeg where these fail. loss.py keeps account of what could not be used.
"""
