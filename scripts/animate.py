"""Join pictures to one that moves: an animated PNG, which every browser shows in full colour.

``ui-tests/tests/screenshot.spec.ts`` takes the pictures. Their names give the order and how long
each is shown: ``03-400.png`` is the fourth, for 400 milliseconds.

usage: animate.py FOLDER OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

COLORS = 255
"""Of one palette for all: a page has few colours, and this halves the size."""


def durations(names: list[str]) -> list[int]:
    """Milliseconds of each frame, by its name. Raises ValueError for a name without them."""
    return [int(name.removesuffix(".png").split("-")[1]) for name in names]


def animate(folder: Path, out: Path) -> int:
    """Write the animation and return its size in bytes.

    Raises
    ------
    ValueError
        There are no pictures.
    """
    files = sorted(folder.glob("*.png"))
    if not files:
        raise ValueError(f"There are no pictures in {folder}. Run `make docs-screenshot`.")
    frames = [Image.open(file).convert("RGB") for file in files]
    # The palette of all of them: a colour that comes late must not be missing.
    sheet = Image.new("RGB", (frames[0].width, sum(frame.height for frame in frames)))
    top = 0
    for frame in frames:
        sheet.paste(frame, (0, top))
        top += frame.height
    palette = sheet.quantize(COLORS, dither=Image.Dither.NONE)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    first.save(
        out,
        format="PNG",
        save_all=True,
        append_images=rest,
        duration=durations([file.name for file in files]),
        loop=0,
        optimize=True,
    )
    return out.stat().st_size


def main() -> int:
    """Animate, and say how large it is."""
    folder, out = map(Path, sys.argv[1:])
    print(f"{out}: {animate(folder, out) / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
