"""Many short sequences into few long ones, first-fit by decreasing length; none is cut unless too long."""

from collections.abc import Sequence

import numpy as np

Masked = tuple[Sequence[int], Sequence[bool]]


def pack_sequences(
    samples: Sequence[Masked], length: int, padding: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Pack (ids, learned) samples into rows of `length`.

    Returns rows int32 (N, length), their learned mask bool (N, length), and how many samples were cut
    to `length`. Padding is never learned. Raises ValueError when no sample learns anything.
    """
    cut = sum(len(ids) > length for ids, _ in samples)
    order = sorted(range(len(samples)), key=lambda i: (-len(samples[i][0]), i))
    rows: list[list[int]] = []
    masks: list[list[bool]] = []
    open_rows: list[int] = []
    for i in order:
        ids, learned = list(samples[i][0])[:length], list(samples[i][1])[:length]
        if not any(learned[1:]):
            continue
        home = next((r for r in open_rows if len(rows[r]) + len(ids) <= length), None)
        if home is None:
            home = len(rows)
            rows.append([])
            masks.append([])
            open_rows.append(home)
        rows[home] += ids
        masks[home] += [False, *learned[1:]]  # the first token has nothing of its own before it
        if len(rows[home]) == length:
            open_rows.remove(home)
    if not rows:
        raise ValueError("no sample has anything to learn: the logs are empty or all of one side")
    packed = np.full((len(rows), length), padding, dtype=np.int32)
    mask = np.zeros((len(rows), length), dtype=bool)
    for r, (row, learned) in enumerate(zip(rows, masks, strict=True)):
        packed[r, : len(row)] = row
        mask[r, : len(learned)] = learned
    return packed, mask, cut
