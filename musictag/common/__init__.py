"""Helpers for every other package, independent of music tagging."""
