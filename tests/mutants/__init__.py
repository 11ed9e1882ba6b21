"""Deliberate faults, one at a time, and the tests that must notice them: `make mutants`.

The lists are the modules beside this one; tests/mutants/faults.py says what a fault is, __main__.py runs them.
"""
