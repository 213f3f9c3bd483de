"""Folders harmed at random: what comes out is right or refused, never silently other.

``python tests/test_import_fuzzing.py NUMBER [SEED]`` runs many and prints the outcomes.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from annotation_folders import MUTATIONS, Folder
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_folders import FORMS as ALL
from layout_folders import TRACELESS

from threecad.dataset.naming import is_mask_folder
from threecad.errors import ThreecadError
from threecad.formats import Decisions, Plan, plan
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import Item

FORMS = {name: write for name, write in ALL.items() if name not in TRACELESS}
LABELLED_BY_FOLDER = ("3cad", "mvtec", "pairs", "real-iad")
GOOD_FOLDERS = ("good", "ok")
BAD_FOLDERS = ("bad", "dent", "ko", "scratch")


def wrongs(folder: Folder, made: Plan) -> list[str]:
    """Return what a plan makes of a folder that is not true."""
    found = []
    photographs = {File(path).stamp() for path in folder.images()}
    present = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.images()}
    for item in made.items:
        digest = hashlib.sha256(item.image.read_bytes()).hexdigest()
        truth = folder.truths.get(digest)
        folders = Path(str(item.image)[len(str(folder.root)) + 1 :].casefold()).parts
        kinds = [name for name in folders if name in GOOD_FOLDERS + BAD_FOLDERS]
        if made.from_format in LABELLED_BY_FOLDER and kinds:
            if item.label != (kinds[0] in BAD_FOLDERS):
                found.append(f"{item.image} became {item.id}, against its folder")
            if truth is None or bool(truth.kind) != item.label:
                present.discard(digest)
                continue  # it was put into another folder, which says what it is
        if truth is None and _replaces_a_lost_one(item, folder):
            continue
        if truth is None:
            found.append(f"{item.image} is no photograph of the source, but {item.id}")
            continue
        present.discard(digest)
        if item.label != bool(truth.kind):
            found.append(f"{item.image} is {truth.kind or 'good'}, but became {item.id}")
        elif item.label and item.mask is not None:
            if isinstance(item.mask, MaskImage) and item.mask.content.stamp() in photographs:
                continue  # put among the masks under the name of one, it is one
            if not np.array_equal(item.mask.decode(None)[0], truth.mask):
                found.append(f"{item.image} has another mask than it should")
            if truth.kind not in (item.defect_type.casefold(), "bad") and item.defect_type != "bad":
                found.append(f"{item.image} is {truth.kind}, but became {item.id}")
    named = f"{made.account} {made.findings}" if present else ""
    for digest in present:
        path = next(path for path in folder.images() if digest in _digest(path))
        as_mask = any(map(is_mask_folder, path.parts))  # there it is one, whatever it shows
        if path.name not in named and not as_mask:
            found.append(f"{path} is left out in silence: {named}")
    return found


def _replaces_a_lost_one(item: Item, folder: Folder) -> bool:
    """Whether an image has the stem of one that is gone, whose labels are then its own."""
    kept = {_digest(path) for path in folder.images()}
    lost = {truth.stem for digest, truth in folder.truths.items() if digest not in kept}
    return Path(str(item.image)).stem in lost


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def attempt(
    seed: int, form: str, mutations: list[str], root: Path, decisions: Decisions | None = None
) -> tuple[str, list[str]]:
    """Return ``right``, ``refused`` or ``wrong`` for one folder, and what is wrong."""
    folder = Folder(root, form, random.Random(seed))
    FORMS[form](folder)
    for name in mutations:
        if folder.images() and folder.others():
            MUTATIONS[name](folder)
    try:
        made = plan(root, workers=0, decisions=decisions)
        found = wrongs(folder, made)
    except ThreecadError as error:
        return "refused", [] if str(error).strip() else ["an empty message"]
    return ("wrong", found) if found else ("right", [])


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_that_nothing_befell_is_read_as_it_is(form: str, tmp_path: Path) -> None:
    for seed in range(3):
        assert attempt(seed, form, [], tmp_path / str(seed)) == ("right", [])


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(sorted(FORMS)),
    mutations=st.lists(st.sampled_from(sorted(MUTATIONS)), min_size=1, max_size=3),
)
def test_right_or_refused(seed: int, form: str, mutations: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        outcome, found = attempt(seed, form, mutations, Path(root) / "data")
    assert outcome != "wrong", found


def main(number: int, seed: int) -> None:
    """Print how many folders came out how, by form, and what was wrong."""
    draw = random.Random(seed)
    outcomes: dict[str, Counter[str]] = {form: Counter() for form in FORMS}
    for turn in range(number):
        form = draw.choice(sorted(FORMS))
        mutations = draw.choices(sorted(MUTATIONS), k=draw.randint(1, 3))
        with tempfile.TemporaryDirectory() as root:
            try:
                own = draw.getrandbits(32)
                outcome, found = attempt(own, form, mutations, Path(root) / "data")
            except Exception as error:  # a crash is what is looked for
                outcome, found = "crash", [repr(error)]
        outcomes[form][outcome] += 1
        if found:
            print(turn, own, form, mutations, found, flush=True)
    for form, counts in outcomes.items():
        print(form, dict(counts))
    print("all", dict(sum(outcomes.values(), Counter())))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
