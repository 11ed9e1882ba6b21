"""Mounts of their own for processes of tests."""

from __future__ import annotations

import subprocess

import pytest


def own_mounts() -> list[str]:
    """The prefix for a command that may mount; skips the test if mounting is not permitted."""
    for own in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        try:
            tried = subprocess.run([*own, "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True)
        except OSError:
            continue
        if tried.returncode == 0:
            return own
    pytest.skip("mounting a small disk is not permitted, neither for this user nor with unshare --map-root-user")
