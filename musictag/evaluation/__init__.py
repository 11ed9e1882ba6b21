"""Song-level evaluation: the metrics (``registry``) and the computations that they share (``weighting``)."""
