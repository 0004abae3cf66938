"""Why a mirror may halt, in the contract's words, where the engine itself says so."""

from __future__ import annotations

TARGET_DOWN = "target-down"
FOLDER_MISSING = "folder-missing"
"""Or a mount point without its mount, or not to be read."""
CREDENTIALS = "credentials"
"""A key is refused, or the account it belongs to."""
BAD_CONFIG = "config"
"""What the config names was there when it was read, or was not looked at then, and cannot be used."""
FAILING = "failing"
TARGET_STUCK = "target-stuck"
"""It accepts documents, and none ever gets done."""
PASSING = (TARGET_DOWN, FAILING)
"""Halts that need nobody: what is wrong passes, or is tried again anyway."""
