"""Where the published prompts of Lan et al. are, if this machine has them (docs/data.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT


def lan_folder() -> Path | None:
    """Return the folder of their JSON files, or None."""
    named = os.environ.get("LAN2024_DIR")
    places = [Path(named)] if named else [ROOT / "data/tasks/lan2024", *ROOT.parent.glob("*/data/lan2024")]
    return next((place for place in places if place.is_dir()), None)


needs_lan = pytest.mark.skipif(
    lan_folder() is None, reason="Lan et al.'s files are not here: set LAN2024_DIR (docs/data.md)"
)
