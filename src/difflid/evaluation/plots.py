"""Plots of an evaluation as inline SVG. Colours are the classes c0, c1, ... of the page, one per method."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from difflid.evaluation.results import Results, Row, heading, shown

__all__ = ["colours", "gain_plot", "mean_plot"]

COLOURS = 8  # classes on the page; c0, grey, is the hazy input's, the others are given in turn
WIDTH, LEFT, RIGHT = 520, 145, 56  # pixels: whole plot, names of the methods, values
LINE, TITLE, GAP, TOP = 20, 22, 12, 4  # of a row, above a group, between groups, above all


def colours(names: Sequence[str]) -> dict[str, str]:
    """Give each method a colour; the hazy input is grey."""
    others = [name for name in names if name != "hazy"]
    return {name: f"c{1 + others.index(name) % (COLOURS - 1)}" if name in others else "c0" for name in names}


@dataclass(frozen=True)
class Axis:
    """A horizontal axis over values from low to high."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Give the place of a value in pixels."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        """Give five or so round values on the axis."""
        step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 1e3) if (self.high - self.low) / s <= 7)
        first = int(self.low // step) + (self.low % step > 0)
        return [round(i * step, 6) for i in range(first, int(self.high // step) + 1)]


def mean_plot(results: Results, score: str) -> str:
    """Draw a bar per method, grouped by set, for the sets that have this score."""
    names = [method.name for method in results.methods]
    groups = {
        each.name: {name: results.summary(name, each.name).scores[score] for name in names}
        for each in results.sets
        if score in results.scores_of(each.name)
    }
    if not groups:
        return ""
    axis = Axis(0, max(value for means in groups.values() for value in means.values()) * 1.02 or 1)
    colour = colours(names)
    body, y = [], float(TOP)
    for set_name, means in groups.items():
        body.append(_title(set_name, y))
        y += TITLE
        for name, value in means.items():
            body += [_name(name, y), _bar(axis, colour[name], value, shown(score, value), y)]
            y += LINE
        y += GAP
    return _svg(axis, body, y, f"mean {heading(score)}")


def gain_plot(results: Results, score: str = "gain") -> str:
    """Draw a dot per picture and a line at the mean, one row per method and set, for the sets that have this score."""
    names = [method.name for method in results.methods if method.name != "hazy"]  # hazy gains nothing
    sets = [each.name for each in results.sets if score in results.scores_of(each.name)]
    if not names or not sets:
        return ""
    values = [row.scores[score] for row in results.rows if score in row.scores]
    axis = Axis(min(-1.0, *values) - 0.5, max(1.0, *values) + 0.5)
    colour = colours(names)
    body, y = [], float(TOP)
    for set_name in sets:
        body.append(_title(set_name, y))
        y += TITLE
        for name in names:
            body += [_name(name, y), _dots(axis, colour[name], results.of(name, set_name), score, y + LINE / 2)]
            y += LINE
        y += GAP
    zero = f'<line class="zero" x1="{axis.at(0):.1f}" x2="{axis.at(0):.1f}" y1="{TOP + TITLE}" y2="{y:.0f}"/>'
    return _svg(axis, [zero, *body], y, "gain over the hazy input, dB PSNR: pictures and their mean")


def _svg(axis: Axis, body: Sequence[str], bottom: float, label: str) -> str:
    ticks = "".join(
        f'<line class="grid" x1="{axis.at(t):.1f}" x2="{axis.at(t):.1f}" y1="{TOP + TITLE}" y2="{bottom:.0f}"/>'
        f'<text class="tick" x="{axis.at(t):.1f}" y="{bottom + 14:.0f}">{t:g}</text>'
        for t in axis.ticks()
    )
    return (
        f'<figure class="plot"><figcaption>{escape(label)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {bottom + 20:.0f}" role="img" aria-label="{escape(label)}">'
        f"{ticks}{''.join(body)}</svg></figure>"
    )


def _title(set_name: str, y: float) -> str:
    return f'<text class="group" x="0" y="{y + 14:.0f}">{_short(set_name, 40)}</text>'


def _name(method: str, y: float) -> str:
    return f'<text class="name" x="{LEFT - 8}" y="{y + LINE / 2 + 4:.0f}">{_short(method, 20)}</text>'


def _short(text: str, most: int) -> str:
    if len(text) <= most:
        return escape(text)
    return f"{escape(text[: most // 2 - 1])}…{escape(text[-most // 2 :])}<title>{escape(text)}</title>"


def _bar(axis: Axis, colour: str, value: float, text: str, y: float) -> str:
    start, end = axis.at(0), axis.at(value)
    return (
        f'<rect class="{colour}" x="{start:.1f}" y="{y + 3:.0f}" width="{max(0, end - start):.1f}" '
        f'height="{LINE - 6}" rx="2"/><text class="value" x="{end + 6:.1f}" y="{y + LINE / 2 + 4:.0f}">{text}</text>'
    )


def _dots(axis: Axis, colour: str, rows: Sequence[Row], score: str, y: float) -> str:
    dots = "".join(
        f'<circle cx="{axis.at(row.scores[score]):.1f}" cy="{y + (i * 7 % 11 - 5) * 0.9:.1f}" r="3"><title>'
        f"{escape(row.method)}, {escape(row.picture)}: {row.scores[score]:+.2f}</title></circle>"
        for i, row in enumerate(rows)
    )
    mean = sum(row.scores[score] for row in rows) / len(rows)
    x, reach = axis.at(mean), LINE / 2 - 1
    mark = f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{y - reach:.1f}" y2="{y + reach:.1f}"/>'
    value = f'<text class="value" x="{WIDTH - RIGHT + 8}" y="{y + 4:.0f}">{mean:+.2f}</text>'
    return f'<g class="dots {colour}">{dots}{mark}</g>{value}'
