"""Song-level evaluation: the metrics (``metrics``) and the computations that they share (``weighting``)."""
