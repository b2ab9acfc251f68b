"""Where claim files are: with the recipes, in a folder that the user names, and those that plugins bring."""

from __future__ import annotations

from pathlib import Path

from genlab.claims.claim import Claim, read_claim
from genlab.errors import UserError, unknown
from genlab.runs.gridfile import recipes_folder

_added: dict[str, Path] = {}
"""Name -> file of the claims that plugins bring."""


def add_claims(path: str | Path) -> None:
    """Add the claim files of a folder, or a single one; plugins call this.

    Raises:
        UserError: no such file or folder, or a claim of this name was added from elsewhere.
    """
    place = Path(path).absolute()
    files = sorted(place.glob("*.toml")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"no claim file at {str(path)!r}")
    for file in files:
        if _added.setdefault(file.stem, file) != file:
            raise UserError(f"claim {file.stem!r} was added from {str(_added[file.stem])!r} already")


def checkout() -> Path:
    """The folder that holds the package: the root of a checkout."""
    return Path(__file__).parents[2]


def claim_files(folder: Path | None = None) -> dict[str, Path]:
    """Name -> file of every claim: those of a folder (default: those that come with genlab), and of plugins.

    Raises:
        UserError: the folder does not exist.
    """
    place = folder or recipes_folder() / "claims"
    if not place.is_dir():
        raise UserError(f"no folder of claims {str(place)!r}; give one with --claims")
    return {**{file.stem: file for file in sorted(place.glob("*.toml"))}, **_added}


def find_claim(name: str, folder: Path | None = None) -> Claim:
    """Read a claim by its name, or by the path of its file.

    Raises:
        UserError: no such claim (with the nearest name), or all errors of its file.
    """
    if name.endswith(".toml"):
        return read_claim(Path(name))
    files = claim_files(folder)
    if name not in files:
        raise unknown("claim", name, files)
    return read_claim(files[name])
