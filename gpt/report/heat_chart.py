"""One head's attention as inline SVG: a row a query, a column a key, darker where it looks."""

from collections.abc import Sequence

from markupsafe import Markup

from gpt.report.plain_text import printable

CELL = 12.0
MARGIN = 66.0
MAX_LABEL = 9
FAINTEST = 0.004  # below it a cell would be invisible and only cost bytes
SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "↵"}


def heat_chart(tokens: Sequence[str], weights: Sequence[Sequence[float]]) -> Markup:
    """Return the chart of weights (T, T); each row sums to 1 over the columns up to its own."""
    n = len(tokens)
    size = MARGIN + n * CELL
    labels = [label(token) for token in tokens]
    parts = [
        Markup(
            '<svg class="heat" viewBox="0 0 {0} {0}" role="img" aria-label="attention of {1} tokens">'
        ).format(f"{size:g}", n)
    ]
    for i, name in enumerate(labels):
        middle = MARGIN + (i + 0.5) * CELL
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
                f"{MARGIN - 4:g}", f"{middle + 3:g}", name
            )
        )
        parts.append(
            Markup('<text transform="translate({},{}) rotate(-90)">{}</text>').format(
                f"{middle + 3:g}", f"{MARGIN - 4:g}", name
            )
        )
    for i, row in enumerate(weights):
        for j, weight in enumerate(row[: i + 1]):
            if weight >= FAINTEST:
                parts.append(_cell(i, j, weight, labels))
    edge = " ".join(f"L{MARGIN + (i + 1) * CELL:g} {MARGIN + i * CELL:g}v{CELL:g}" for i in range(n))
    parts.append(Markup('<path class="edge" d="M{0} {0}{1}H{0}Z"/>').format(f"{MARGIN:g}", edge))
    return Markup("").join([*parts, Markup("</svg>")])


def label(token: str) -> str:
    """Return a token as a label: blanks made visible, long ones cut."""
    shown = "".join(SIGNS.get(character, printable(character)) for character in token)
    return shown if len(shown) <= MAX_LABEL else shown[: MAX_LABEL - 1] + "…"


def _cell(i: int, j: int, weight: float, labels: list[str]) -> Markup:
    return Markup(
        '<rect x="{}" y="{}" width="{}" height="{}" fill-opacity="{}"><title>{}</title></rect>'
    ).format(
        f"{MARGIN + j * CELL:g}",
        f"{MARGIN + i * CELL:g}",
        f"{CELL:g}",
        f"{CELL:g}",
        f"{weight:.3f}",
        f"{labels[i]} looks at {labels[j]}: {weight:.2f}",
    )
