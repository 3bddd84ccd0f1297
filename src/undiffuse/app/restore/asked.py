"""What is asked of a folder: its pictures, what each is compared with, and whether it was done before."""

import os
from dataclasses import dataclass
from pathlib import Path

from undiffuse.app.measurement import check_terms
from undiffuse.app.presets import read_presets
from undiffuse.app.priors import Opened
from undiffuse.app.restore.files import LONGEST, REPORT
from undiffuse.app.restore.folder import MANIFEST, SUFFIXES, pictures, settings
from undiffuse.app.restore.manifest import Manifest
from undiffuse.app.restore.table import TABLE
from undiffuse.app.restore.task import Priors, candidates, check_prior, network_of_lpips, open_asked
from undiffuse.config import RestoreConfig
from undiffuse.metrics import LPIPS


@dataclass(frozen=True, slots=True)
class Asked:
    """A folder's pictures and what they are restored with; nothing is written yet."""

    config: RestoreConfig
    names: list[str]  # of all pictures, below the folder
    left: tuple[str, ...]  # what was left out, in words
    owners: dict[str, str]  # of pictures that would share the results of another
    references: "References"
    priors: Priors
    lpips: LPIPS | None
    mark: str  # of the settings

    @property
    def told(self) -> str:
        """How many pictures there are, and what was left out."""
        return "; ".join((f"{len(self.names)} pictures in '{self.config.image}'", *self.left))

    def todo(self, manifest: Manifest) -> list[str]:
        """The pictures that are not done; those that fail before they are read are among them."""
        return [name for name in self.names if name in self.owners or not self._done(manifest, name)]

    def _done(self, manifest: Manifest, name: str) -> bool:
        try:
            return manifest.done(self.config.image, name, self.mark, self.references.of(name))
        except ValueError:  # without its reference, it is told of again
            return False

    def own(self, name: str) -> RestoreConfig:
        """The settings of one picture. ValueError if it can have no results, or has no reference."""
        if name in self.owners:
            raise ValueError(
                f"'{self.owners[name]}' has the same name but for its ending: they would share results"
            )
        if len(os.fsencode(f"{Path(name).stem}_deviation.png")) > LONGEST:
            raise ValueError("its name is too long for names such as NAME_deviation.png; shorten it")
        own = {"image": self.config.image / name, "reference": self.references.of(name)}
        return self.config.model_copy(update=own)


def open_folder(config: RestoreConfig) -> Asked:
    """ValueError for what no picture can have, and for folders that would mix or be overwritten."""
    _check_folders(config)
    names, left = pictures(config.image, config.out)
    priors: Priors = {name: open_asked(config, name) for name in candidates(config)}
    for opened in priors.values():
        check_prior(config, opened)
    lpips = network_of_lpips(config)
    weights = {name: _weights(opened) for name, opened in priors.items()}
    mark = settings(config, weights, lpips and lpips.mark)
    return Asked(config, names, left, _owners(names), References(config.reference), priors, lpips, mark)


def _weights(opened: Opened) -> str | None:
    """What decides its answers beside its name; None for a prior without a file."""
    return opened.mark if opened.sha256 is not None or opened.asked_for else None


def _check_folders(config: RestoreConfig) -> None:
    """ValueError for settings that no picture can have, and for folders that would mix or be overwritten."""
    check_terms(config)
    if config.preset is not None:
        read_presets(config.preset)
    for name in (TABLE, REPORT):
        if (config.out / name).exists() and not (config.out / MANIFEST).exists():
            raise ValueError(f"'{config.out}' holds a {name} that is of no folder; choose another --out")
    if config.out.resolve() == config.image.resolve():
        raise ValueError(f"the results would mix with the pictures in '{config.out}'; choose another --out")
    if config.reference is not None and not config.reference.is_dir():
        raise ValueError(
            f"--reference '{config.reference}'; give a folder whose files have the names of the pictures"
        )


def _owners(names: list[str]) -> dict[str, str]:
    """For pictures that have no results of their own the one that has: the first that differs in its ending only."""
    first: dict[str, str] = {}
    found = ((name, first.setdefault(os.path.splitext(name)[0], name)) for name in names)
    return {name: owner for name, owner in found if owner != name}


class References:
    """Clean pictures of the same names, or of the same names but for their endings."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._known: dict[Path, dict[str, list[Path]]] = {}  # of each folder by name without ending

    def of(self, name: str) -> Path | None:
        """The reference of a picture; None if there are none at all, ValueError if it has none, or two."""
        if self._folder is None:
            return None
        wanted = self._folder / name
        if wanted.is_file():
            return wanted
        found = self._of_folder(wanted.parent).get(wanted.stem, [])
        if len(found) == 1:
            return found[0]
        what = "no reference" if not found else f"{len(found)} references for"
        raise ValueError(f"{what} '{wanted}'; expected one, or leave out --reference")

    def _of_folder(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._known:
            known = self._known.setdefault(folder, {})
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    known.setdefault(path.stem, []).append(path)
        return self._known[folder]
