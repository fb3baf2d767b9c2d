"""Train and validation split, by document.

A document's side depends on its own id and the seed alone, so that adding documents moves none of
the others (except that a side which would be empty takes the nearest one). A corpus of one document
is cut by position, at the end of a paragraph.
"""

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt

SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")


def unit_hash(key: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the key and the seed alone."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56  # 56 bits fit a float exactly: never 1.0


def side_of(key: str, seed: int, val_fraction: float) -> Literal["train", "val"]:
    """Return the side of one id among many."""
    return "val" if unit_hash(key, seed) < val_fraction else "train"


def split_ids(ids: list[str], *, val_fraction: float, seed: int) -> dict[str, str]:
    """Map each id to "train" or "val"; both sides get one at least. Needs two ids or more."""
    assert len(set(ids)) == len(ids) >= 2, "split_ids: unique ids, two at least"
    places = np.array([unit_hash(key, seed) for key in ids])
    return {
        key: SPLITS[int(val)]
        for key, val in zip(ids, places_are_val(places, val_fraction=val_fraction), strict=True)
    }


def places_are_val(places: npt.NDArray[np.float64], *, val_fraction: float) -> npt.NDArray[np.bool_]:
    """Tell for each unit_hash whether it lies in "val"; with two places or more, both sides get one."""
    is_val = places < val_fraction
    if len(places) > 1 and not is_val.any():
        is_val[places.argmin()] = True
    if len(places) > 1 and is_val.all():
        is_val[places.argmax()] = False
    return is_val


def cut_text(text: str, *, val_fraction: float) -> tuple[str, str]:
    """Cut one text into (train, val) near 1 - val_fraction; nothing is lost between them.

    The cut is after a blank line, else after a line, else anywhere. Raises ValueError for a text of
    fewer than two characters.
    """
    if len(text) < 2:
        raise ValueError(f"the only document has {len(text)} characters: too few to split; add text")
    wanted = min(max(round(len(text) * (1 - val_fraction)), 1), len(text) - 1)
    for end in ("\n\n", "\n"):
        before = text.rfind(end, 0, wanted)
        after = text.find(end, wanted)
        cuts = [at + len(end) for at in (before, after) if at >= 0]
        cuts = [at for at in cuts if 0 < at < len(text)]
        if cuts:
            cut = min(cuts, key=lambda at: abs(at - wanted))
            return text[:cut], text[cut:]
    return text[:wanted], text[wanted:]
