"""`musictag plan`: what a training will take, on paper, before anything is bought, copied or begun.

Every number comes from an assumption that is printed with where it comes from, and that an option replaces:
``assumptions`` (tables), ``sketch`` (the network), ``speed`` (of one GPU, of decoding), ``settings`` (from options to
numbers), ``arithmetic`` (from numbers to a plan), ``show`` (what a person or a program reads).
"""
