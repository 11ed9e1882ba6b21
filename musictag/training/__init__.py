"""Training with Lightning: the module, its losses, and how its weights are optimised."""
