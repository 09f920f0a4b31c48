"""Cases in the browser or in a notebook: three planes and 3D."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from nnunetv2_s2ca.api.logger import report as say
from nnunetv2_s2ca.api.report import check_page
from nnunetv2_s2ca.core.errors import UserError
from nnunetv2_s2ca.core.files import write_text
from nnunetv2_s2ca.viewer.cases import ViewedCase, find_cases
from nnunetv2_s2ca.viewer.layers import difference
from nnunetv2_s2ca.viewer.page import viewer_html
from nnunetv2_s2ca.viewer.server import Shelf, address_of, make_server
from nnunetv2_s2ca.viewer.widget import notebook_widget

TITLE = "s2ca view"


def view(
    cases: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    reference: str | PathLike[str] | None = None,
    images: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    dataset_json: str | PathLike[str] | None = None,
    static: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Any:
    """Look at a case in a notebook, or write the viewer as one HTML file.

    Args:
        cases: folders of predictions, trained models, results of `evaluate`, a patient's folder in
            BraTS' layout, or segmentation files.
        reference: folder of the true segmentations, or the truth of one segmentation.
        images: folder of the images, or the images of one case.
        dataset_json: nnU-Net's file that defines the regions; looked for if None.
        static: write all cases with their volumes to this HTML file.
        overwrite: replace an earlier file.

    Returns:
        A widget of ipyniivue for the first case, the worst one where scores are known; the file's
        path with `static`.

    Raises:
        UserError: There is nothing to view, or ipyniivue is not installed.
    """
    target = None if static is None else Path(static)
    if target is not None:
        check_page(target, overwrite=overwrite)
    found = _find(cases, reference, images, dataset_json)
    if target is None:
        return notebook_widget(found[0])
    write_text(target, viewer_html(found, _inside, title=TITLE))
    return target


def serve_viewer(
    cases: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    reference: str | PathLike[str] | None = None,
    images: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    dataset_json: str | PathLike[str] | None = None,
    port: int = 0,
    open_browser: bool = True,
) -> None:
    """Serve the viewer on this machine's loopback until interrupted, and open the browser.

    The server hands out the page and the cases' files, under addresses that cannot be guessed.

    Args:
        cases: as for `view`.
        reference: as for `view`.
        images: as for `view`.
        dataset_json: as for `view`.
        port: number of the port; a free one if 0.
        open_browser: open the page in the default browser.

    Raises:
        UserError: There is nothing to view, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"`port` is {port}; expected 0 to 65535")
    found = _find(cases, reference, images, dataset_json)
    shelf = Shelf()

    def address(case: ViewedCase, layer: str) -> str:
        if layer == "difference":
            return shelf.add(lambda: difference(case.files))
        return shelf.add_file(case.paths[layer])

    shelf.set_page(viewer_html(found, address, title=TITLE))
    try:
        server = make_server(shelf, port=port)
    except OSError as error:
        raise UserError(f"`port` {port} cannot be used: {error.strerror or error}") from error
    with server:
        place = address_of(server, shelf)
        say(f"{len(found)} cases at {place}" if len(found) > 1 else f"1 case at {place}")
        say("Ctrl-C ends the viewer")
        if open_browser:
            import webbrowser

            webbrowser.open(place)
        server.serve_forever()


def _find(
    cases: str | PathLike[str] | Sequence[str | PathLike[str]],
    reference: str | PathLike[str] | None,
    images: str | PathLike[str] | Sequence[str | PathLike[str]],
    dataset_json: str | PathLike[str] | None,
) -> list[ViewedCase]:
    found, problems = find_cases(
        _paths(cases),
        reference=None if reference is None else Path(reference),
        images=_paths(images),
        dataset_json=None if dataset_json is None else Path(dataset_json),
    )
    for problem in problems:
        say(f"not shown: {problem}")
    return found


def _paths(given: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[Path]:
    return [Path(given)] if isinstance(given, (str, PathLike)) else [Path(path) for path in given]


def _inside(case: ViewedCase, layer: str) -> str:
    """A data URI of a layer, gzipped."""
    if layer == "difference":
        content = difference(case.files)
    else:
        content = case.paths[layer].read_bytes()
        if case.paths[layer].suffix != ".gz":
            content = gzip.compress(content, 6, mtime=0)
    return f"data:application/gzip;base64,{base64.b64encode(content).decode()}"
