"""Song-level evaluation: what is measured (``registry``) and what the measures share (``weighting``)."""
