"""An evaluation as one HTML file that needs nothing else: tables, plots, and the best and worst pictures."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from torch import Tensor

from difflid import image
from difflid.evaluation.baselines import Method, as_picture
from difflid.evaluation.plots import colours, gain_plot, mean_plot
from difflid.evaluation.results import Difference, Results, Row, SetInfo, Summary, heading, shown, write_text
from difflid.evaluation.run import EvaluationSet, load_case, restored
from difflid.evaluation.scale import reduced

__all__ = ["write_report"]

CASES = 2  # pictures shown from each end of a set's order
LONGEST_SIDE, QUALITY = 640, 85  # pixels and JPEG quality of the embedded pictures
ORDER = {"pairs": "psnr", "clear": "psnr", "hazy": "r"}  # the score that says which pictures are the ends
ENDS = {
    "pairs": ("lowest PSNR", "highest PSNR"),
    "clear": ("most changed", "least changed"),
    "hazy": ("least contrast gained", "most contrast gained"),
}
MARK = ' class="best"'
MINUS, UP, DOWN = "\u2212", "\u2191", "\u2193"
HIGHER_IS_BETTER = {"psnr": True, "ssim": True, "ms_ssim": True, "ciede2000": False, "gain": True, "lpips": False}
PLOTTED = ("psnr", "ssim", "ciede2000", "lpips", "r", "fog_density")  # as means
KIND_NOTES = {
    "pairs": "hazy and clear",
    "clear": "photographs without haze: how much is changed that should be left alone",
    "hazy": "no clear picture known: measures without reference",
}


@dataclass(frozen=True)
class Shown:
    """One picture of a set, to be shown with what every method made of it."""

    test_set: EvaluationSet
    picture: str
    why: str


def write_report(results: Results, methods: Sequence[Method], sets: Sequence[EvaluationSet], path: Path) -> None:
    """Write the report; the methods run once more on the few pictures that are shown."""
    methods = [method for method in methods if method.name not in results.failures]
    cases = [case for test_set in sets for case in _cases(results, test_set)]
    names = [method.name for method in methods]
    page = Template(files("difflid.evaluation").joinpath("report.html").read_text(encoding="utf-8"))
    content = {
        "title": escape(f"Evaluation of {', '.join(names)}"),
        "methods": _names(names),
        "subtitle": escape(_subtitle(results)),
        "summary": "".join(_summary_table(results, each) for each in results.sets),
        "plots": gain_plot(results) + "".join(mean_plot(results, score) for score in PLOTTED),
        "cases": "".join(_case_html(case, results, methods) for case in cases),
        "rows": "".join(_rows_table(results, each) for each in results.sets),
        "protocol": _definitions(results),
    }
    write_text(path, page.substitute(content))


def _names(names: Sequence[str]) -> str:
    """Name the methods with their colours."""
    colour = colours(names)
    return "".join(f'<span class="key"><i class="{colour[name]}"></i>{escape(name)}</span>' for name in names)


def _subtitle(results: Results) -> str:
    pictures = [f"{each.name} ({each.pictures})" for each in results.sets]
    failures = "".join(f" Left out: {name}, which failed on {why}." for name, why in results.failures.items())
    return f"Pictures: {', '.join(pictures)}. Protocol: {results.protocol.name}.{failures}"


def _cases(results: Results, test_set: EvaluationSet) -> list[Shown]:
    """Choose the ends of the order by the first method that does something."""
    names = [method.name for method in results.methods]
    focus = next((name for name in names if name != "hazy"), names[0])
    score = ORDER[test_set.kind]
    ranked = [row for row in results.of(focus, test_set.name) if score in row.scores]
    rows = sorted(ranked, key=lambda row: row.scores[score])
    count = min(CASES, (len(rows) + 1) // 2)
    low, high = (f"{end} by {focus}" for end in ENDS[test_set.kind])
    highest = rows[max(count, len(rows) - count) :][::-1]
    chosen = [(row, low) for row in rows[:count]] + [(row, high) for row in highest]
    return [Shown(test_set, row.picture, why) for row, why in chosen]


def _summary_table(results: Results, info: SetInfo) -> str:
    summaries = [results.summary(method.name, info.name) for method in results.methods]
    names = results.scores_of(info.name)
    best = {
        name: (max if HIGHER_IS_BETTER[name] else min)(each.scores[name] for each in summaries)
        for name in names
        if name in HIGHER_IS_BETTER
    }
    against = {each.method: each for each in results.differences if each.set == info.name}
    colour = colours([each.method for each in summaries])
    heads = "".join(f"<th>{escape(_heading(summaries[0], name))}</th>" for name in names)
    if against:
        heads += f"<th>PSNR less that of {escape(results.methods[0].name)}, 95 %</th>"
    body = "".join(
        _summary_row(each, colour[each.method], best, _interval(against.get(each.method)) if against else "")
        for each in summaries
    )
    return (
        f"<h3>{escape(info.name)} <small>{info.pictures} pictures, {KIND_NOTES[info.kind]}</small></h3>"
        f'<div class="scroll"><table><thead><tr><th>method</th>{heads}<th>s/MP</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _heading(summary: Summary, score: str) -> str:
    if score not in HIGHER_IS_BETTER:
        return summary.heading(score)
    return f"{summary.heading(score)} {UP if HIGHER_IS_BETTER[score] else DOWN}"


def _interval(difference: Difference | None) -> str:
    if difference is None:
        return "<td></td>"
    text = f"{difference.mean:+.2f} <small>{difference.low:+.2f} to {difference.high:+.2f}</small>"
    return f"<td>{text.replace('-', MINUS)}</td>"


def _summary_row(summary: Summary, colour: str, best: Mapping[str, float], interval: str) -> str:
    cells = "".join(
        f"<td{MARK if best.get(name) == value else ''}>{shown(name, value)}</td>"
        for name, value in summary.scores.items()
    )
    name = f'<th scope="row"><i class="{colour}"></i>{escape(summary.method)}</th>'
    return f"<tr>{name}{cells}{interval}<td>{summary.seconds_per_megapixel:.2f}</td></tr>"


def _rows_table(results: Results, info: SetInfo) -> str:
    rows = [row for method in results.methods for row in results.of(method.name, info.name)]
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    heads = "".join(f"<th><button>{text}</button></th>" for text in ["picture", "method", *map(heading, names), "size"])
    body = "".join(_row_html(row, names) for row in rows)
    return (
        f"<details><summary>{escape(info.name)} <small>{len(rows)} rows</small></summary>"
        '<input class="filter" type="search" placeholder="only rows with ..." aria-label="only rows with this text">'
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _row_html(row: Row, names: Sequence[str]) -> str:
    cells = "".join(
        f'<td data-v="{row.scores[name]!r}">{shown(name, row.scores[name]).replace("-", MINUS)}</td>'
        if name in row.scores
        else "<td></td>"
        for name in names
    )
    size = f'<td data-v="{row.width * row.height}">{row.width} x {row.height}</td>'
    return f'<tr><th scope="row">{escape(row.picture)}</th><td class="text">{escape(row.method)}</td>{cells}{size}</tr>'


def _case_html(case: Shown, results: Results, methods: Sequence[Method]) -> str:
    pair = next(pair for pair in case.test_set.pairs if pair.name == case.picture)
    loaded = load_case(case.test_set, pair, results.protocol)
    hazy, clear = loaded.hazy, loaded.clear
    ratio = f"{hazy.shape[3]} / {hazy.shape[2]}"
    figures = [_figure(case, results, method, hazy) for method in methods if method.name != "hazy"]
    if case.test_set.kind == "pairs":
        figures.append(_compared("clear", clear, "<b>clear</b>"))
    columns = 2 if len(figures) in (2, 4) else 3
    return (
        f'<article class="case" style="--ratio:{ratio};--columns:{columns};--hazy:url({_embedded(hazy)})">'
        f"<h3>{escape(case.picture)} <small>{escape(case.test_set.name)}: {escape(case.why)}</small></h3>"
        '<div class="controls"><label class="cut">hazy<input type="range" min="0" max="100" value="50" '
        'aria-label="before and after">restored</label>'
        '<label><input class="large" type="checkbox"> large</label></div>'
        f'<div class="figures">{"".join(figures)}</div></article>'
    )


def _figure(case: Shown, results: Results, method: Method, hazy: Tensor) -> str:
    row = next(row for row in results.of(method.name, case.test_set.name) if row.picture == case.picture)
    score = ORDER[case.test_set.kind]
    unit = " dB" if score == "psnr" else ""
    caption = f"<span><b>{escape(method.name)}</b><br>{heading(score)} {shown(score, row.scores[score])}{unit}</span>"
    if method.transmission:
        veiling = _embedded(method.transmission(hazy).cpu())
        caption += f'<span class="map"><span>transmission</span><img alt="transmission" src="{veiling}"></span>'
    return _compared(method.name, restored(method, hazy, results.protocol), caption)


def _compared(name: str, picture: Tensor, caption: str) -> str:
    """Give a figure whose left part, up to the line, is the hazy picture of its case."""
    return (
        f'<figure><div class="view"><img alt="{escape(name)}" src="{_embedded(picture)}">'
        f'<div class="before"></div></div><figcaption>{caption}</figcaption></figure>'
    )


def _embedded(tensor: Tensor) -> str:
    """Give a picture (1, 1 or 3, H, W) as a data URL of a JPEG whose longer side is at most 640 pixels."""
    small = reduced(tensor.float(), LONGEST_SIDE)
    jpeg = image.encode(as_picture(small.expand(-1, 3, -1, -1)), "JPEG", image.Writing(QUALITY))
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def _definitions(results: Results) -> str:
    facts = {key.replace("_", " "): value for key, value in results.protocol.described().items()}
    facts |= {f"version of {name}": value for name, value in results.versions.items()}
    facts |= {f"metric {name}": source for name, source in results.custom_metrics.items()}
    facts |= {f"weights of {each.name}": each.weights_sha256 for each in results.methods if each.weights_sha256}
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
