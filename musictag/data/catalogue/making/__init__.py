"""`musictag catalogue`: a catalogue made from labels in whatever form people have them.

Each form is read by a module of its own, which returns ``Labels``: folders.py (a folder per genre), files.py (tags
inside the files), tables.py (genres in the cells of a table), fma.py (tracks.csv of the Free Music Archive). What they
find goes the same way from there: words.py takes cells apart and merges spellings, choosing.py decides which tags and
songs stay, making.py finds out the form, writes the catalogue and says what it did.
"""
