"""`musictag catalogue`: makes a catalogue from labels in whatever form the user has them.

Each form has its own module, which returns ``Labels``: folders.py (a folder per genre), files.py (tags inside the
files), cells.py (genres in the cells of a table), fma.py (tracks.csv of the Free Music Archive). The rest is shared:
words.py splits cells and merges spellings, choosing.py decides which tags and songs to keep, make.py detects the
form, writes the catalogue and reports what was done.
"""
