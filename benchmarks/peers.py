"""Other people's implementations, where they are: packages of this Python, and ports in a folder named by the user.

Nothing of theirs lies here. A port is looked for as FOLDER/OWNER/NAME, as `git clone` of
https://github.com/OWNER/NAME leaves it there; a package is imported if it is installed. What cannot be had is an
`Absent` with its reason, and is shown as such.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

AMDEGROOT = "amdegroot/ssd.pytorch"
LUFFICC = "lufficc/SSD"
SGRVINOD = "sgrvinod/a-PyTorch-Tutorial-to-Object-Detection"


@dataclass(frozen=True)
class Absent:
    """A peer that is not there, and why."""

    reason: str


class Peers:
    """Finds peers and remembers which versions of them were used. folder: of the ports; None if there is none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.used = folder, dict[str, str]()

    def package(self, name: str, *, version_of: str | None = None) -> ModuleType | Absent:
        """An installed package or a module of it; version_of: the package that has the __version__."""
        try:
            module = import_module(name)
            whole = import_module(version_of or name.partition(".")[0])
        except Exception as error:  # a package for another machine may fail in any way
            return Absent(f"{name} cannot be imported: {error}")
        self.used[whole.__name__] = str(getattr(whole, "__version__", "unknown"))
        return module

    def port(self, name: str, *modules: str, under: str = ".") -> list[ModuleType] | Absent:
        """Modules of a port, as they are, by their names seen from the folder `under` of it.

        Afterwards another port may have modules of the same names.
        """
        if self.folder is None:
            return Absent("no folder of ports was named (--ports)")
        root = (self.folder / name / under).resolve()
        if not root.is_dir():
            return Absent(f"{self.folder / name} is not there (git clone https://github.com/{name})")
        before = set(sys.modules)
        sys.path.insert(0, str(root))
        try:
            found = [import_module(m) for m in modules]
        except Exception as error:
            return Absent(f"{name} cannot be imported: {error}")
        finally:
            sys.path.remove(str(root))
            own = {n: m for n, m in sys.modules.items() if n not in before and _lies_in(m, root)}
            for n in own:
                del sys.modules[n]
        self.used[name] = "sha256 " + _digest(own.values())
        return found


def _lies_in(module: ModuleType, root: Path) -> bool:
    known = vars(module)  # torch has modules that answer any other question with an object
    places = [known.get("__file__"), *known.get("__path__", [])]
    return any(root in Path(p).resolve().parents for p in places if p)


def _digest(modules: Iterable[ModuleType]) -> str:
    """Of the source of the imported files: what a version is where there is no number."""
    files = sorted(m.__file__ for m in modules if getattr(m, "__file__", None))
    return hashlib.sha256(b"".join(Path(f).read_bytes() for f in files)).hexdigest()[:12]
