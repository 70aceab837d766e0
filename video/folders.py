"""Lists the files below a folder. Training and the command line use the same rules.

- A file or folder whose name begins with a dot is skipped, with everything in it.
- A link to a file counts as a file, and a link to a folder is followed.
- Every folder is entered once, and every file is listed once, even if several links lead to it.
- A link to a folder that contains the link is not followed.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LeftOut:
    """An entry of a folder that is not listed, and the reason.

    Attributes:
        path: of the entry.
        reason: completes a sentence that begins with the path.
        is_error: True if the entry cannot be read, False if it would only be listed twice.
    """

    path: Path
    reason: str
    is_error: bool

    def __str__(self) -> str:
        return f"{shown(self.path)} {self.reason}"


@dataclass
class FolderListing:
    """The files below one or more folders, each listed once.

    Attributes:
        files: in the order of the calls of `add`; those of each call are sorted by path.
        left_out: entries that were not listed, except hidden entries and those that the caller does not want.
    """

    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    _folders: dict[tuple[int, int], Path] = field(default_factory=dict)
    _real_files: dict[str, Path] = field(default_factory=dict)

    def add(self, folder: Path, wanted: Callable[[Path], bool] = lambda file: True) -> list[Path]:
        """List the files below a folder, which may itself be hidden or a link.

        Args:
            folder: the folder to list. If it cannot be read, it is added to `left_out`.
            wanted: returns whether the file at a path is to be listed.

        Returns:
            The files that this added to the list, sorted.
        """
        found: list[Path] = []
        links: list[Path] = []  # followed last, so that an entry is listed by its own path rather than by a link's
        linked_files: list[Path] = []
        waiting = deque([folder])
        while waiting or links:
            here = waiting.popleft() if waiting else links.pop(0)
            real = os.path.realpath(here)
            for entry in self._entries(here):
                path = here / entry.name
                if entry.is_symlink():
                    self._sort_link(path, wanted, links, linked_files)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif entry.is_file(follow_symlinks=False) and wanted(path):
                    found.extend(self._once(path, f"{real}{os.sep}{entry.name}"))
        for path in sorted(linked_files):
            found.extend(self._once(path, os.path.realpath(path)))
        found.sort()
        self.files.extend(found)
        return found

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """The visible entries of a folder; none if it was entered before or cannot be read."""
        try:
            status = folder.stat()
            before = self._folders.setdefault((status.st_dev, status.st_ino), folder)
            if before is not folder:
                if before != folder:
                    self._leave_out(folder, f"is the same folder as {shown(before)}", is_error=False)
                return []
            with os.scandir(folder) as entries:
                return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
        except OSError as error:
            self._leave_out(folder, f"cannot be read: {error.strerror or error}", is_error=True)
            return []

    def _sort_link(self, link: Path, wanted: Callable[[Path], bool], folders: list[Path], files: list[Path]) -> None:
        """Add a link to ``folders`` or ``files``, depending on its target."""
        kind = _kind_of(link)
        if kind is None:
            if wanted(link) or not link.suffix:  # without a suffix, it may have been a folder
                self._leave_out(link, "is a link whose target cannot be read", is_error=True)
        elif stat.S_ISDIR(kind):
            if leads_back(link):
                self._leave_out(link, "is a link to a folder that contains it", is_error=False)
            else:
                folders.append(link)
        elif stat.S_ISREG(kind) and wanted(link):
            files.append(link)

    def _once(self, file: Path, real: str) -> list[Path]:
        """A list of the file; empty if it was listed before."""
        before = self._real_files.setdefault(real, file)
        if before is file:
            return [file]
        if before != file:
            self._leave_out(file, f"is the same file as {shown(before)}", is_error=False)
        return []

    def _leave_out(self, path: Path, reason: str, *, is_error: bool) -> None:
        self.left_out.append(LeftOut(path, reason, is_error))


def folders_in(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """The folders directly inside a folder, sorted by name, by the rules of this module.

    Returns:
        The folders, including links to folders; and the entries that were left out.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    taken: dict[tuple[int, int], Path] = {}
    left_out = []
    for entry in sorted(visible, key=lambda entry: (entry.is_symlink(), entry.name)):
        path = folder / entry.name
        try:
            status = path.stat()
        except OSError as error:
            reason = "is a link whose target cannot be read" if entry.is_symlink() else f"cannot be read: {error}"
            left_out.append(LeftOut(path, reason, is_error=True))
            continue
        if not stat.S_ISDIR(status.st_mode):
            continue
        before = taken.setdefault((status.st_dev, status.st_ino), path)
        if entry.is_symlink() and leads_back(path):
            left_out.append(LeftOut(path, "is a link to a folder that contains it", is_error=False))
        elif before is not path:
            left_out.append(LeftOut(path, f"is the same folder as {shown(before)}", is_error=False))
    gone = {entry.path for entry in left_out}
    return sorted(path for path in taken.values() if path not in gone), left_out


def is_hidden(name: str) -> bool:
    """Return True if the name is hidden. Editors, sync tools and notebooks keep copies in hidden files and folders."""
    return name.startswith(".")


def leads_back(link: Path) -> bool:
    """Return True if a link leads to a folder that contains the link, so that following it would never end."""
    link = link.absolute()
    above = {os.path.realpath(parent) for parent in link.parents}
    real_parent = Path(os.path.realpath(link.parent))
    above.update(str(parent) for parent in (real_parent, *real_parent.parents))
    return os.path.realpath(link) in above


def shown(path: Path) -> str:
    """A path as printable text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _kind_of(link: Path) -> int | None:
    """The mode of a link's target; None if the target does not exist or the link leads to itself."""
    try:
        return link.stat().st_mode
    except OSError:
        return None
