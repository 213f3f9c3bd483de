"""A web page for one person: drop an image, see what the detector says, move the threshold.

``cfrg.app.server`` serves it. Whether an upload is an image is for ``threecad.images.files`` to
say, as everywhere.
"""

from __future__ import annotations

import atexit
import html
import os
import shutil
import tempfile
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.app.inspector import VIEWS, Inspection, Inspections, Inspector, shrink
from cfrg.inference.overlays import colour_scale
from cfrg.network import processing
from threecad.errors import ThreecadError, UsageError
from threecad.images.files import read_image
from threecad.pages.figures import heatmap

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ROWS",
    "STYLE",
    "describe_detector",
    "describe_verdict",
    "import_gradio",
    "list_regions",
    "make_app",
]

ROWS = 50
"""Regions in the table; the rest is counted."""

_THUMBNAIL = 240

STYLE = """
.gradio-container { width: 100%; max-width: 84rem !important; margin: 0 auto !important;
  overflow-x: hidden; }
.head h1 { font-size: 1.25rem; font-weight: 650; margin: .2rem 0; }
.head p, .note { font-size: .85rem; margin: 0; opacity: .75; }
.verdict { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem 1rem;
  padding: .7rem 1rem; border-radius: 8px; border-left: 6px solid #7f7f7f;
  background: var(--background-fill-secondary); }
.verdict strong { font-size: 1.35rem; font-weight: 650; }
.verdict.good { border-color: #009e73; }
.verdict.review { border-color: #e69f00; }
.verdict.defective { border-color: #d55e00; }
.verdict span { font-variant-numeric: tabular-nums; }
.html-container { padding: 0 !important; }
#picture img, #upload img { width: 100%; height: 100%; object-fit: contain; }
#examples .grid-wrap { height: auto !important; max-height: none !important; min-height: 0;
  overflow: visible; }
#examples .grid-container { padding-top: 1.6rem; }
.legend { display: grid; grid-template-columns: auto 1fr auto; gap: 0 .6rem; align-items: center;
  font-size: .8rem; font-variant-numeric: tabular-nums; }
.legend div { position: relative; height: .8rem; border-radius: 3px; }
.legend i { position: absolute; top: -3px; bottom: -3px; width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 0 1px #000; }
"""
"""CSS of the page, which gradio takes where the page is mounted."""


def make_app(inspectors: Sequence[Inspector]) -> Any:
    """Return the page as ``gradio.Blocks``, not yet served.

    Raises:
        UsageError: If gradio is not installed.
    """
    gradio = import_gradio()
    known = {inspector.name: inspector for inspector in inspectors}
    inspections = Inspections(known)
    first = inspectors[0]
    # One queue for all events: an older answer must not arrive after a newer one.
    private: dict[str, Any] = {
        "api_visibility": "private",
        "show_progress": "minimal",
        "concurrency_id": "page",
        "concurrency_limit": 1,
    }
    with gradio.Blocks(title="CFRG", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        state = gradio.State(None, time_to_live=3600)  # the path of the image shown
        head = gradio.HTML(describe_detector(first), padding=False)
        chooser = gradio.Dropdown(
            list(known), value=first.name, label="Detector", visible=len(known) > 1
        )
        with gradio.Row():
            with gradio.Column(scale=5, min_width=300):
                upload = gradio.Image(
                    label="Image",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    height=340,
                    buttons=[],
                    elem_id="upload",
                )
                # Gradio would open the file itself, and say nothing but "Error" if it is no image.
                upload.preprocess = _path
                examples = gradio.Gallery(
                    _thumbnails(first),
                    label="Examples",
                    columns=4,
                    height="auto",
                    object_fit="contain",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    visible=bool(first.examples),
                    elem_id="examples",
                )
            with gradio.Column(scale=6, min_width=300):
                verdict = gradio.HTML(describe_verdict(first, None, first.threshold), padding=False)
                picture = gradio.Image(
                    label="What the detector sees",
                    interactive=False,
                    format="png",
                    height=400,
                    buttons=["download", "fullscreen"],
                    elem_id="picture",
                )
                legend = gradio.HTML(_legend(first, first.pixel_threshold), padding=False)
                view = gradio.Radio(
                    list(VIEWS), value=VIEWS[0], label="View", show_label=False, container=False
                )
                with gradio.Row():
                    threshold = gradio.Slider(
                        label="Image threshold",
                        min_width=240,
                        buttons=[],
                        elem_id="threshold",
                        **_slider(first.threshold),
                    )
                    pixel_threshold = gradio.Slider(
                        label="Map threshold",
                        min_width=240,
                        buttons=[],
                        elem_id="pixel-threshold",
                        **_slider(first.pixel_threshold),
                    )
                # A field being typed in is empty for a moment, which gradio would call an error.
                threshold.preprocess = pixel_threshold.preprocess = _unchanged
                reset = gradio.Button("Back to the first thresholds", size="sm", elem_id="reset")
                table = gradio.Dataframe(
                    headers=["Region", "Score", "Left", "Top", "Width", "Height", "Pixels", "%"],
                    value=[],
                    interactive=False,
                    label="Regions",
                    max_height=260,
                    buttons=[],
                )
        settings = [chooser, threshold, pixel_threshold, view]
        shown = [verdict, picture, legend, table]

        gradio.on(
            [upload.upload, upload.clear],
            partial(_inspect, inspections),
            [upload, *settings],
            [state, *shown],
            **private,
        )
        gradio.on(
            [threshold.change, pixel_threshold.change, view.input],
            partial(_show, inspections),
            [state, *settings],
            shown,
            trigger_mode="always_last",
            **{**private, "show_progress": "hidden"},
        )

        def inspect_example(
            name: str, threshold: float, pixel_threshold: float, view: str, event: Any
        ) -> list[Any]:
            images = [str(sample.image) for sample in known[name].examples]
            path = images[event.index] if event.index < len(images) else None
            shown = _inspect(inspections, path, name, threshold, pixel_threshold, view)
            return [None if shown[0] is None else inspections.find(name, shown[0]).image, *shown]

        # By this annotation gradio knows what to pass.
        inspect_example.__annotations__ = {"event": gradio.SelectData}
        examples.select(inspect_example, settings, [upload, state, *shown], **private)

        def choose(path: str | None, name: str, view: str) -> list[Any]:
            new = known[name]
            values = (name, new.threshold, new.pixel_threshold, view)
            return [
                describe_detector(new),
                gradio.Gallery(_thumbnails(new), visible=bool(new.examples)),
                gradio.Slider(**_slider(new.threshold)),
                gradio.Slider(**_slider(new.pixel_threshold)),
                *_inspect(inspections, path, *values),
            ]

        chooser.input(
            choose,
            [upload, chooser, view],
            [head, examples, threshold, pixel_threshold, state, *shown],
            **private,
        )

        def go_back(name: str) -> tuple[float, float]:
            return known[name].threshold, known[name].pixel_threshold

        # What shows them follows by the event of their change, like any other move of theirs: two
        # ways to show could overtake each other.
        reset.click(go_back, [chooser], [threshold, pixel_threshold], **private)
    return page


# What the page shows -------------------------------------------------------------------------


def _unchanged(value: Any) -> Any:
    return value


def _path(upload: Any) -> str | None:
    return None if upload is None else str(upload.path)


def _inspect(inspections: Inspections, path: str | None, *values: Any) -> list[Any]:
    """Return what the session is to remember of a file, and what shows it."""
    shown = _show(inspections, path, *values)
    return [None if shown[1] is None else path, *shown]


def _show(
    inspections: Inspections,
    path: str | None,
    name: str,
    threshold: float | None,
    pixel_threshold: float | None,
    view: str,
) -> list[Any]:
    """Return verdict, picture, legend and table; a message in their place if a file is broken."""
    inspector = inspections.inspectors[name]
    threshold = _exact(threshold, inspector.threshold)
    pixel_threshold = _exact(pixel_threshold, inspector.pixel_threshold)
    legend = _legend(inspector, pixel_threshold)
    if path is None:
        return [describe_verdict(inspector, None, threshold), None, legend, []]
    try:
        found = inspections.find(name, path)
    except ThreecadError as error:
        reason = str(error).replace(path, os.path.basename(path))  # noqa: PTH119
        return [_card("", "Cannot be read", reason), None, legend, []]
    return [
        describe_verdict(inspector, found, threshold, pixel_threshold),
        inspector.draw(found, pixel_threshold, view),
        legend,
        list_regions(found, pixel_threshold, inspector.predictor.policy.least_area),
    ]


def describe_verdict(
    inspector: Inspector,
    found: Inspection | None,
    threshold: float,
    pixel_threshold: float | None = None,
) -> str:
    """Return the decision about an inspection as HTML.

    The review ends where the image threshold is moved to, and never begins above it.
    """
    if found is None:
        return _card("", "Drop an image", "or choose an example.")
    score, height, width = found.score, *found.size
    facts = f"{width} × {height} pixels."
    if not inspector.decides and threshold == inspector.threshold:
        text = f"Score {score:.4g}. Move the threshold to decide. {facts}"
        return _card("", "No decision", text)
    policy = inspector.policy(threshold, pixel_threshold)
    regions = found.regions(
        inspector.pixel_threshold if pixel_threshold is None else pixel_threshold
    )
    decision = policy.decide(score, regions=regions)
    relation = "above" if processing.decide(score, threshold) else "not above"
    text = f"Score {score:.4g} is {relation} the threshold {threshold:.4g}"
    if decision == "review":
        text += f", but above {policy.review:.4g}, where review begins"
    elif policy.least_area and not policy.count(regions):
        text += f"; no region has {policy.least_area:,} pixels"
    title = {"good": "Good", "review": "Review", "defective": "Defective"}[decision]
    return _card(decision, title, f"{text}. {facts}")


def list_regions(found: Inspection, pixel_threshold: float, least_area: int = 0) -> list[list[Any]]:
    """Return the rows of the table of regions, at most ``ROWS`` and one that counts the rest."""
    regions = [region for region in found.regions(pixel_threshold) if region.area >= least_area]
    pixels = found.size[0] * found.size[1]
    rows: list[list[Any]] = [
        [k, f"{r.score:.4g}", *r.box, r.area, f"{100 * r.area / pixels:.3f}"]
        for k, r in enumerate(regions[:ROWS], 1)
    ]
    if len(regions) > ROWS:
        rows.append([f"and {len(regions) - ROWS} more", *[""] * 7])
    return rows


def _card(kind: str, title: str, text: str) -> str:
    return (
        f'<div class="verdict {kind}" role="status"><strong>{html.escape(title)}</strong>'
        f"<span>{html.escape(text)}</span></div>"
    )


def describe_detector(inspector: Inspector) -> str:
    """Return the name of a detector and where its thresholds come from, as HTML."""
    title = inspector.name.replace("_", " ")
    return (
        f'<div class="head"><h1>CFRG · {html.escape(title)}</h1>'
        f"<p>{html.escape(inspector.origin)}</p></div>"
    )


def _legend(inspector: Inspector, pixel_threshold: float) -> str:
    """Return the colours of the map, with a mark where regions begin."""
    low, high = inspector.scale
    colours = heatmap(np.linspace(0, 1, 17)[None], vmin=0, vmax=1)[0]
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colours.tolist())
    place = min(max((pixel_threshold - low) / (high - low), 0), 1)
    return (
        f'<div class="legend"><span>{low:.4g}</span>'
        f'<div style="background: linear-gradient(to right, {stops})" role="img" '
        f'aria-label="Colours of the anomaly map; regions begin at {pixel_threshold:.4g}">'
        f'<i style="left: {100 * place:.2f}%"></i></div><span>{high:.4g}</span></div>'
    )


def _slider(value: float) -> dict[str, Any]:
    low, high = colour_scale(value)
    low, high, step = (_short(each) for each in (low, high, (high - low) / 1000))
    return {"minimum": low, "maximum": high, "value": _short(value), "step": step}


def _short(value: float) -> float:
    """Return a number that reads well on a slider."""
    return float(f"{value:.6g}")


def _exact(shown: float | None, exact: float) -> float:
    """Return the threshold itself where the slider shows its rounded value, or nothing."""
    return exact if shown is None or shown == _short(exact) else shown


def _thumbnails(inspector: Inspector) -> list[tuple[Any, str]]:
    found = []
    for sample in inspector.examples:
        try:
            found.append((shrink(read_image(sample.image), _THUMBNAIL), sample.defect_type))
        except ThreecadError:
            continue
    return found


@lru_cache(maxsize=1)
def import_gradio() -> Any:
    """Import gradio so that it reports to nobody and keeps its files in a folder of ours."""
    folder = tempfile.mkdtemp(prefix="cfrg-app-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise UsageError("The page needs gradio: pip install 'threecad[app]'") from None
    return gradio
