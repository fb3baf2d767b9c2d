"""Pieces of text into rows of one length: which piece goes into which row. None is cut here.

First-fit and best-fit take pieces by decreasing length (Johnson 1973): at most 11/9 of the fewest rows.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

Masked = tuple[Sequence[int], Sequence[bool]]


def pack_sequences(samples: Sequence[Masked], length: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack (ids, learned) samples into rows of `length`, first-fit by decreasing length.

    Returns rows int32 (N, length) and their learned mask bool (N, length). A sample is cut to `length`; one
    that teaches nothing in it is left out. Padding is never learned. Raises ValueError when none teaches.
    """
    order = sorted(range(len(samples)), key=lambda i: (-len(samples[i][0]), i))
    kept = [i for i in order if any(samples[i][1][1:length])]
    if not kept:
        raise ValueError("no sample has anything to learn: the logs are empty or all of one side")
    homes = first_fit([min(len(samples[i][0]), length) for i in kept], length)
    packed = np.full((max(homes) + 1, length), padding, dtype=np.int32)
    mask = np.zeros(packed.shape, dtype=bool)
    filled = [0] * len(packed)
    for i, row in zip(kept, homes, strict=True):
        ids, learned = samples[i][0][:length], samples[i][1][1:length]
        start, end = filled[row], filled[row] + len(ids)
        packed[row, start:end] = ids
        mask[row, start + 1 : end] = learned  # the first token has nothing of its own before it
        filled[row] = end
    return packed, mask


def first_fit(lengths: Sequence[int], capacity: int) -> list[int]:
    """Return the row of each piece, taken in the given order: the first row with room for it.

    A binary tree over the rows holds the most room of each half: log2(n) steps a piece.
    """
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    room = [capacity] * (2 * leaves)  # node i has children 2i and 2i + 1; row r is leaf leaves + r
    rows = []
    for length in lengths:
        assert 0 < length <= capacity, (length, capacity)
        node = 1
        while node < leaves:
            node *= 2
            if room[node] < length:
                node += 1
        rows.append(node - leaves)
        room[node] -= length
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return rows


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Return the row of each piece, int64: the fullest row that still has room for it.

    `lengths` must not increase. Pieces of one length are placed together, so millions cost no more
    than there are pairs of a length and a room: at most capacity^2 / 2.
    """
    assert (lengths[:-1] >= lengths[1:]).all(), "sort the lengths, longest first"
    assert len(lengths) == 0 or 0 < lengths[-1] <= lengths[0] <= capacity, (lengths[0], capacity)
    home = np.empty(len(lengths), dtype=np.int64)
    rows_by_room: dict[int, list[np.ndarray]] = defaultdict(list)
    rooms = 0  # bit r is set when a row has room for r more
    n_rows = 0
    _, firsts, counts = np.unique(-lengths, return_index=True, return_counts=True)
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        length, end = int(lengths[first]), first + count
        while first < end:
            if fitting := rooms >> length:
                room = length + (fitting & -fitting).bit_length() - 1  # the least that suffices
                rows = np.concatenate(rows_by_room.pop(room))
                rooms ^= 1 << room
            else:
                room = capacity
                n_new = -(-(end - first) // (capacity // length))
                rows = np.arange(n_rows, n_rows + n_new)
                n_rows += n_new
            each = room // length  # as many as the row takes: it stays the fullest that has room
            n_used = min(len(rows), -(-(end - first) // each))
            placed = np.repeat(rows[:n_used], each)[: end - first]
            home[first : first + len(placed)] = placed
            first += len(placed)
            last = len(placed) - each * (n_used - 1)  # the last row used may take fewer
            for some, left in (
                (rows[: n_used - 1], room - each * length),
                (rows[n_used - 1 : n_used], room - last * length),
                (rows[n_used:], room),
            ):
                if len(some) and left:
                    rows_by_room[left].append(some)
                    rooms |= 1 << left
    return home
