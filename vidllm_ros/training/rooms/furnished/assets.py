"""Fetch modelled furniture with its textures: ``python -m vidllm_ros.training.rooms.furnished.assets DIR``.

Everything comes with Debian's package ``sweethome3d-furniture`` (more than 700 pieces of known size). Nothing of it may
go into this repository. Licences, as the package's copyright file states them, and whom to name:

- Scopia: CC BY 3.0, (c) 2010-2012 Scopia Visual Interfaces Systems, s.l.
- Kator Legaz: CC BY 3.0 US, (c) 2003-2008 Andrew Kator and Jennifer Legaz
- Reallusion: CC BY 3.0 US, (c) 2008-2011 Reallusion
- BlendSwap CC-BY: CC BY 3.0, the BlendSwap contributors
- BlendSwap CC-0: CC0, Emmanuel Puybaret, eTeks, and other contributors
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vidllm_ros.training.rooms.furnished.wavefront import Model, read_model

PACKAGE = "sweethome3d-furniture"
#: Categories of the catalogues that belong into rooms.
INDOORS = (
    "Bathroom",
    "Bedroom",
    "Characters",
    "Doors and windows",
    "Kitchen",
    "Lights",
    "Living room",
    "Miscellaneous",
    "Office",
)
MOST_TRIANGLES = 30000
#: Texels along a side of every texture.
TEXTURE_SIDE = 128


def fetch(folder: Path) -> list[Path]:
    """The package's furniture libraries, downloaded by Debian's package manager unless they are there."""
    libraries = folder / "package" / "usr" / "share" / "sweethome3d" / "furniture"
    if not libraries.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
        package = next(folder.glob(f"{PACKAGE}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, folder / "package"], check=True)
    return sorted(libraries.glob("*.sh3f"))


def catalogue(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    """The pieces that a library lists, as they stand in its properties."""
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    pieces: dict[int, dict[str, str]] = defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*?)\r?$", text, re.MULTILINE):
        pieces[int(number)][key] = value.strip()
    yield from pieces.values()


def convert(libraries: list[Path], folder: Path) -> int:
    """Turn the libraries into one array file a piece and ``catalogue.json``; returns the number of pieces."""
    pieces = []
    (folder / "pieces").mkdir(parents=True, exist_ok=True)
    for library in libraries:
        with zipfile.ZipFile(library) as archive:
            for entry in catalogue(archive):
                if entry.get("category") not in INDOORS:
                    continue
                size = tuple(float(entry[k]) / 100 for k in ("width", "depth", "height"))
                try:
                    model = read_model(archive, entry["model"].lstrip("/"), size, _rotation(entry))
                except (KeyError, ValueError, IndexError) as error:
                    print(f"{entry.get('model')} is left out: {error}")
                    continue
                if model is None or len(model.triangles) > MOST_TRIANGLES:
                    continue
                path = folder / "pieces" / f"{len(pieces):04d}.npz"
                write_piece(path, model, archive)
                pieces.append(
                    {
                        "file": path.name,
                        "name": entry["name"],
                        "category": entry["category"],
                        "library": library.stem,
                        "creator": entry.get("creator", ""),
                        "size": size,
                        "elevation": float(entry.get("elevation", 0)) / 100,
                    }
                )
    (folder / "catalogue.json").write_text(json.dumps(pieces, indent=1))
    return len(pieces)


def write_piece(path: Path, model: Model, archive: zipfile.ZipFile) -> None:
    """One piece as arrays; its textures are scaled to squares."""
    textures, index = [], []
    for name in model.textures:
        image = None
        if name is not None and name in archive.NameToInfo:
            image = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
        index.append(-1 if image is None else len(textures))
        if image is not None:
            scaled = cv2.resize(image, (TEXTURE_SIDE, TEXTURE_SIDE), interpolation=cv2.INTER_AREA)
            textures.append(scaled[..., ::-1])
    stored = io.BytesIO()
    np.savez_compressed(
        stored,
        vertices=model.vertices.astype(np.float32),
        triangles=model.triangles.astype(np.int32),
        uv=model.uv.astype(np.float32),
        material=model.material.astype(np.int16),
        colours=model.colours.astype(np.float32),
        texture=np.array(index, np.int16),
        textures=np.array(textures, np.uint8).reshape(-1, TEXTURE_SIDE, TEXTURE_SIDE, 3),
    )
    path.write_bytes(stored.getvalue())


def _rotation(entry: dict[str, str]) -> np.ndarray:
    values = entry.get("modelRotation", "").split()
    return np.array(values, float).reshape(3, 3) if len(values) == 9 else np.eye(3)


def main() -> None:
    """Fetch and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="cache outside the repository")
    arguments = parser.parse_args()
    print(f"{convert(fetch(arguments.folder), arguments.folder)} pieces in {arguments.folder}")


if __name__ == "__main__":
    main()
