"""A study as one HTML file that needs nothing else: what is recommended, pictures, curves, probes and maps."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template

from torch import Tensor

from difflid import image
from difflid.evaluation.baselines import as_picture
from difflid.evaluation.results import write_text
from difflid.study.estimates import Estimate
from difflid.study.findings import Choice, Study
from difflid.study.plots import curves, haze_legend, principal_plot
from difflid.study.probes import QUESTIONS, Question
from difflid.study.samples import VEILS
from difflid.study.views import Pictures

__all__ = ["sentences", "write_report"]

SHOWN_VEIL = "medium"  # of the curves of similarity
VERDICTS = {"ahead": "better than", "behind": "worse than", "level": "not told apart from"}


def write_report(study: Study, pictures: Pictures, path: Path, about: Mapping[str, object]) -> None:
    """Write the page; ``about`` says what was studied, with what."""
    package = files("difflid")
    page = Template(package.joinpath("study/report.html").read_text(encoding="utf-8"))
    look = package.joinpath("evaluation/report.html").read_text(encoding="utf-8")
    content = {
        "look": look.partition("<style>")[2].partition("</style>")[0],
        "title": escape(f"What the latents of {about['prior']} know"),
        "subtitle": f"{study.train_photos} photographs to train decoders on, {study.validation_photos} held out",
        "sentences": "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(study)),
        "pictures": "".join(_picture_table(study, pictures, index) for index in range(len(pictures.inputs))),
        "decoders": _similarity_plot(study) + _haze_plot(study),
        "probes": "".join(_probe_plot(study, question) for question in QUESTIONS),
        "table": _probe_table(study),
        "maps": "".join(principal_plot(t.timestep, t.principal, study.mean_transmission) for t in study.timesteps),
        "haze_legend": haze_legend(),
        "facts": "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(study, about)),
    }
    write_text(path, page.substitute(content))


def sentences(study: Study) -> list[str]:
    """Say what is recommended and how far the latents bear it out."""
    content, haze = study.content, study.haze
    found = [
        f"t1 (content) = {content.timestep}: {_reason(content, 'what is behind the haze')}",
        f"t2 (haze) = {haze.timestep}: {_reason(haze, 'how dense the haze is at a place')}",
    ]
    if content.timestep >= haze.timestep:
        found.append("The method expects content at a smaller time-step than haze; these numbers do not show it.")
    return [*found, *_comparisons(study), _sum(study)]


def _sum(study: Study) -> str:
    comparisons = study.comparisons()
    ahead = sum(each.verdict == "ahead" for each in comparisons)
    if ahead == len(comparisons):
        return "In all that was asked, the latents know more than what they are compared with."
    return (
        f"The latents know more than what they are compared with in {ahead} of {len(comparisons)} comparisons; "
        "in the others nothing shows that this prior is needed."
    )


def _reason(choice: Choice, what: str) -> str:
    rivals = ", ".join(map(str, choice.rivals))
    beside = f"not told apart from {rivals}" if rivals else "by more than chance"
    return f"there the latents of a hazy picture tell best {what} (R² {choice.score}; {beside})."


def _comparisons(study: Study) -> Iterator[str]:
    """Say for each question what the latents are worth at the time-step where they answer it best."""
    for question, compared in groupby(study.comparisons(), key=lambda each: each.question):
        parts = list(compared)
        against = ", ".join(
            f"{VERDICTS[each.verdict]} {each.against} ({each.difference.mean:+.3f} ± {each.difference.error:.3f})"
            for each in parts
        )
        yield f"{QUESTIONS[question].capitalize()}, best at t = {parts[0].timestep}: {against}."


def _picture_table(study: Study, pictures: Pictures, index: int) -> str:
    heads = "".join(f"<th>r at t = {each.timestep}</th>" for each in study.timesteps)
    names = ["clear", *(f"{veil} haze" for veil in VEILS)]
    rows = []
    for row, name in enumerate(names):
        cells = _cell(pictures.inputs[index, row], name)
        for column, each in enumerate(study.timesteps):
            cells += _cell(pictures.drawn[column, index, row], f"{name}, decoded at {each.timestep}")
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table class="pictures"><thead><tr><th></th><th>input</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(picture: Tensor, alt: str) -> str:
    """Embed a picture (3, S, S) as a JPEG."""
    jpeg = b64encode(image.encode(as_picture(picture[None]), "JPEG")).decode()
    return f'<td><img alt="{alt}" src="data:image/jpeg;base64,{jpeg}"></td>'


def _similarity_plot(study: Study) -> str:
    names = {
        "r(clear) and the clear picture": "r(clear), clear",
        "r(hazy) and the clear picture": f"r({SHOWN_VEIL}), clear",
        "r(hazy) and the hazy picture": f"r({SHOWN_VEIL}), hazy",
    }
    found = {name: [each.views.ssim[key] for each in study.timesteps] for name, key in names.items()}
    return curves(f"similarity (SSIM) over time-steps, {SHOWN_VEIL} haze", study.config.timesteps, found)


def _haze_plot(study: Study) -> str:
    found = {f"{veil} haze": [each.views.haze_difference[veil] for each in study.timesteps] for veil in VEILS}
    return curves(
        "haze difference |r(hazy) - r(clear)| / |hazy - clear| over time-steps", study.config.timesteps, found
    )


def _probe_plot(study: Study, question: Question) -> str:
    found = {name: list(points) for name, points in _probe_rows(study, question)}
    return curves(f"{QUESTIONS[question]}: R² over time-steps", study.config.timesteps, found)


def _probe_rows(study: Study, question: Question) -> Iterator[tuple[str, list[Estimate]]]:
    """Name the features, each with its R^2 at every time-step."""
    yield "pixel statistics", [Estimate.of(study.pixel_statistics[question])] * len(study.timesteps)
    random = [each.random_weights[question] for each in study.timesteps if each.random_weights]
    if random:
        yield "random weights", [Estimate.of(folds) for folds in random]
    yield "latents", [Estimate.of(each.latents[question]) for each in study.timesteps]


def _probe_table(study: Study) -> str:
    heads = "".join(f"<th>t = {each.timestep}</th>" for each in study.timesteps)
    rows = "".join(
        f'<tr><th scope="row">{QUESTIONS[question]}</th><td class="text">{name}</td>'
        f"{''.join(f'<td>{each}</td>' for each in points)}</tr>"
        for question in QUESTIONS
        for name, points in _probe_rows(study, question)
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>asked</th><th class="text">features</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _facts(study: Study, about: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    spec, config = study.spec, study.config
    for name, value in about.items():
        yield name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
    yield "latents", f"{spec.channels} x {spec.grid} x {spec.grid} of a guide of {spec.guide_size} pixels"
    yield "photographs", f"{study.train_photos} to train decoders on, {study.validation_photos} held out"
    yield (
        "hazy pictures of the probes",
        f"{len(study.mean_transmission)}, {config.versions} of each held-out photograph",
    )
    yield "decoders", f"{config.steps} steps of 32 photographs each"
    yield "optical depth of the veils", ", ".join(f"{name} {depth:g}" for name, depth in VEILS.items())
    yield "seed", str(config.seed)
