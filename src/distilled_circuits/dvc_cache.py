"""What DVC's cache can bring back: objects by MD5, and what earlier runs wrote; plain files, without starting DVC."""

from __future__ import annotations

import configparser
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distilled_circuits.errors import UserError
from distilled_circuits.yaml_files import parse_yaml

UNCOUNTED = ("size", "nfiles")
"""Keys that DVC leaves out of a run's digest, wherever they stand."""


@dataclass(frozen=True)
class Cache:
    """DVC's cache of a project: `files/md5/` has objects, `runs/` what each run that ended was made of."""

    folder: Path

    def has(self, md5: str) -> bool:
        """Return whether an object is there; of a folder's, whether all its files are."""
        place = self.place(md5)
        if not md5.endswith(".dir"):
            return place.exists()
        listing = self.listing(md5)
        return listing is not None and all(self.place(file).exists() for file in listing.values())

    def listing(self, md5: str) -> dict[str, str] | None:
        """Return the MD5s of a folder's files by their paths below it, or None where the cache cannot tell."""
        try:
            return {entry["relpath"]: entry["md5"] for entry in json.loads(self.text(md5) or "")}
        except (ValueError, KeyError, TypeError):
            return None

    def text(self, md5: str) -> str | None:
        """Return an object's text, or None where it is not there."""
        place = self.place(md5)
        return place.read_text(encoding="utf-8", errors="replace") if place.exists() else None

    def earlier_run(self, made_of: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """Return the outputs of the newest run of one command on the same inputs and parameters, or None.

        `made_of` is what `run_digest` takes. DVC asks in the same way (`dvc/stage/cache.py`).
        """
        key = run_digest(made_of)
        folder = self.folder / "runs" / key[:2] / key
        runs = sorted(folder.iterdir(), key=lambda run: run.stat().st_mtime) if folder.is_dir() else []
        try:
            return parse_yaml(runs[-1].read_text(encoding="utf-8"))["outs"] if runs else None
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
            return None

    def place(self, md5: str) -> Path:
        """Return where an object is, if it is there."""
        return self.folder / "files/md5" / md5[:2] / md5[2:]


def cache_of(root: Path) -> Cache:
    """Return the cache of the project in `root`: `.dvc/cache`, or where its configuration has it.

    Raises UserError for a configuration that cannot be read.
    """
    config = configparser.ConfigParser(interpolation=None, strict=False)
    for name in ("config", "config.local"):
        try:
            config.read(root / ".dvc" / name, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise UserError(f".dvc/{name}: not readable ({' '.join(str(error).split())})") from None
    return Cache(root / ".dvc" / config.get("cache", "dir", fallback="cache").strip("\"'"))


def run_digest(made_of: Mapping[str, Any]) -> str:
    """Return the name under which DVC remembers a run: the SHA-256 of its command, inputs, parameters and outputs.

    `made_of` is as in dvc.lock (`cmd`, `deps`, `params`), but `outs` are paths alone.
    """
    return hashlib.sha256(json.dumps(_counted(made_of), sort_keys=True).encode()).hexdigest()


def _counted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _counted(part) for key, part in value.items() if key not in UNCOUNTED}
    return [_counted(part) for part in value] if isinstance(value, list) else value
