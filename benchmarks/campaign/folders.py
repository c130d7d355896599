"""A campaign's own folder."""

from pathlib import Path


def make(folder: Path) -> None:
    """With its parents; nothing if it is there."""
    folder.mkdir(parents=True, exist_ok=True)
