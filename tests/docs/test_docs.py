"""The README and the book: every command and code block runs, every quoted message is ours."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from command_lines import GROUPS, run_line
from documents import ROOT, SHELL, Block, read_pages
from PIL import Image

import cfrg
import threecad
from threecad.cli.group import name_flags
from threecad.procedural import render

PAGES = read_pages()
BLOCKS = [block for blocks in PAGES.values() for block in blocks]
# The readers of other formats warn of their own imports, and leave files open.
NOISY = {"docs/formats.md": pytest.mark.filterwarnings("ignore")}
RUNNING = [
    pytest.param(page, marks=NOISY.get(page, ()))
    for page, blocks in PAGES.items()
    if any(block.kind == "run" for block in blocks)
]
SHOWN_ONLY = {"", "bibtex", "text", "json", "yaml", "toml", "csv"}
SHORT = 200  # steps: two validations where the pages ask for one every hundred


def of_kind(*kinds: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.kind in kinds]


@pytest.fixture(scope="session")
def book_folder(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder and what else the pages speak of. Shared: copy it."""
    folder = copy_folder(prepared_folder, tmp_path_factory.mktemp("book") / "folder")
    for number in range(6):
        for name in ("good", "ok"):
            write_photograph(folder / "photos" / name / f"{number}.png", None, number)
        for name in ("bad", "ng"):
            write_photograph(folder / "photos" / name / f"{number}.png", "bruise", number)
        write_photograph(folder / "new-photos" / f"{number}.png", "bruise", 20 + number)
    draw = np.random.default_rng(0)
    for number in range(6, 150):  # as many as a threshold needs
        pixels = np.asarray(Image.open(folder / "photos" / "good" / f"{number % 6}.png"))
        noisy = pixels + draw.normal(0, 2, pixels.shape)
        path = folder / "photos" / "good" / f"{number}.png"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    tiles = folder / "magnetic_tile"
    for number in range(3):
        write_photograph(tiles / "MT_Free" / "Imgs" / f"free{number}.jpg", None, number)
        write_photograph(tiles / "MT_Break" / "Imgs" / f"break{number}.jpg", "bruise", number)
        mask = render("Aluminum_Ipad", "test", "bruise", number, size=96)[1]
        Image.fromarray(mask).save(tiles / "MT_Break" / "Imgs" / f"break{number}.png")
    rows = ["object,split,label,image,mask"]
    rows += [f"Tile,train,normal,MT_Free/Imgs/free{n}.jpg," for n in (0, 1)]
    rows += ["Tile,test,normal,MT_Free/Imgs/free2.jpg,"]
    rows += ["Tile,test,anomaly,MT_Break/Imgs/break0.jpg,MT_Break/Imgs/break0.png"]
    (folder / "magnetic_tile_split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_photograph(path: Path, defect_type: str | None, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image, _ = render("Aluminum_Ipad", "test", defect_type, number, size=96)
    Image.fromarray(np.asarray(image)).save(path)


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder; large files that are only ever replaced, not changed, are linked."""

    def copy(source: str, target: str) -> None:
        try:
            assert Path(source).suffix in (".safetensors", ".pth")
            os.link(source, target)
        except (AssertionError, OSError):
            shutil.copyfile(source, target)

    return shutil.copytree(source, target, copy_function=copy)


@pytest.mark.parametrize("page", RUNNING)
def test_every_block_of_the_page_runs(
    page: str, book_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(copy_folder(book_folder, tmp_path / "folder"), monkeypatch)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in PAGES[page]:
        if block.kind == "file":
            Path(block.reason).write_text(block.code, encoding="utf-8")
        elif block.kind in ("run", "setup"):
            run_block(block, names)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder as in a terminal of a user who has just installed us."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("THREECAD_ROOT", str(folder / "3cad"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


def run_block(block: Block, names: dict[str, Any]) -> None:
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.code, block.page, "exec"), names)
    elif block.language in SHELL:
        for line in block.command_lines:
            run_command(line, block.place)
    elif block.language == "json":
        json.loads(block.code)
    else:
        assert block.language in SHOWN_ONLY, f"{block.place}: what is a {block.language} block?"


def run_command(line: str, place: str) -> None:
    if shlex.split(line)[0] in GROUPS and not re.search(r"[|>]|&&", line):
        result = run_line(line)
        assert result.exit_code == 0, f"{place}\n$ {line}\n{result.output}"
    elif os.name == "posix":
        process = subprocess.run(["bash", "-ec", line], capture_output=True, text=True)
        assert process.returncode == 0, f"{place}\n$ {line}\n{process.stdout}{process.stderr}"


@pytest.mark.parametrize("block", of_kind("slow", "not run"))
def test_a_block_that_does_not_run_here_is_still_ours(block: Block) -> None:
    """Its options exist, its Python compiles, and it says why it does not run."""
    assert block.reason, f"{block.place}: say why after '{block.kind}:'"
    if block.language == "python":
        compile(block.code, block.place, "exec")
    for line in block.command_lines if block.language in SHELL else ():
        for part in line.split("&&"):
            words = shlex.split(part.replace("-m cfrg.cli", "cfrg").rstrip("& "), comments=True)
            start = next((n for n, word in enumerate(words) if word in GROUPS), None)
            if start is not None:
                parse(words[start:], block.place)
    if block.kind == "not run":
        pytest.skip(f"not run: {block.reason}")


def parse(words: list[str], place: str) -> None:
    """Let click parse a command line, without looking at the values or running anything."""
    name, *rest = words
    command: click.Command = GROUPS[name]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, *rest = rest
        assert name in command.commands, f"{place}: there is no command {name}"
        command = command.commands[name]
    context = click.Context(command)
    context.resilient_parsing = False
    try:
        command.make_parser(context).parse_args(rest)
    except click.UsageError as error:
        pytest.fail(f"{place}: {shlex.join(words)}: {error.message}")


@pytest.mark.slow
def test_slow_blocks_run(
    book_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the README on, in a folder without data; a line that stands on several pages runs once.

    They train for minutes, so they share the folder. Trainings of the preset's length stop after
    ``SHORT`` steps, unless ``THREECAD_TEST_WHOLE`` is set: what is shown here is that the lines
    run one after another, not how good the detectors get.
    """
    folder = copy_folder(book_folder, tmp_path / "folder")
    for name in ("3cad", "run", "runs", "predictions"):
        shutil.rmtree(folder / name)
    enter(folder, monkeypatch)
    done: set[str] = set()
    for block in (each for each in BLOCKS if each.kind == "slow"):
        if block.language == "python":
            run_block(block, {"__name__": "__main__"})
        for line in block.command_lines if block.language in SHELL else ():
            words = shlex.join(shlex.split(line, comments=True))
            if words not in done:
                started = time.monotonic()
                run_command(shorten(line), block.place)
                print(f"{time.monotonic() - started:4.0f} s  {block.place}: {line}", flush=True)
                done.add(words)


def shorten(line: str) -> str:
    if "--steps" in line or os.environ.get("THREECAD_TEST_WHOLE"):
        return line
    return line.replace("cfrg train ", f"cfrg train --steps {SHORT} ")


NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


def test_the_cells_of_the_notebook_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process: quicker than in a kernel, which the slow test starts."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells), "clear the outputs before committing"
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["report"].ok
    assert 0 < names["result"]["pixel_auroc"].value <= 1


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_every_command_stands_in_the_book() -> None:
    """The generated reference does not count."""
    lines = [line for b in BLOCKS if b.language in SHELL for line in b.command_lines]
    text = "\n".join(lines) + "".join(
        (ROOT / page).read_text(encoding="utf-8") for page in PAGES if page != "docs/cli.md"
    )
    missing = [
        f"{program} {name}"
        for program, group in GROUPS.items()
        for name in group.commands
        if f"{program} {name}" not in text
    ]
    assert not missing


@pytest.mark.parametrize("package", [threecad, cfrg], ids=["threecad", "cfrg"])
def test_every_public_name_stands_in_the_reference(package: Any) -> None:
    page = (ROOT / "docs" / "api" / f"{package.__name__}.md").read_text(encoding="utf-8")
    shown = set(re.findall(rf"^::: {package.__name__}\.(\w+)$", page, re.MULTILINE))
    assert shown - {"errors"} == set(package.__all__) - {"__version__"}


def message_templates() -> list[str]:
    """Return every text of our source, with … where a value is filled in."""
    templates = []
    for package in ("threecad", "cfrg"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    templates.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                    templates.append("".join(map(str, parts)))
    return [" ".join(template.split()) for template in templates]


def as_printed(template: str) -> set[str]:
    """Return a text with the flags of each command that has the parameters it names."""
    if "`" not in template:
        return {template}
    commands = [command for group in GROUPS.values() for command in group.commands.values()]
    return {name_flags(template, command) for command in commands}


def quoted_messages() -> list[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return [m.strip() for _, m in re.findall(r"^### (`+)(.+)\1$", page, re.MULTILINE)]


def test_messages_quoted_in_troubleshooting_are_in_the_source() -> None:
    messages = quoted_messages()
    assert len(messages) > 20
    templates = {text for template in message_templates() for text in as_printed(template)}
    assert not [m for m in messages if not any(m in template for template in templates)]


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if not target.startswith("http")]
    assert local
    assert not [target for target in local if not (ROOT / target).exists()]


@pytest.mark.parametrize("program", GROUPS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_our_commands(program: str, shell: str) -> None:
    """What click offers for Bash, Zsh and Fish, asked for as the shell would."""
    name = f"_{program.upper()}_COMPLETE"
    if shell != "bash" or shutil.which("bash"):
        source = complete(program, {name: f"{shell}_source"})
        assert f"{name}={shell}_complete" in source.replace("env ", "")
    words = {"bash": {"COMP_CWORD": "1"}, "zsh": {"COMP_CWORD": "1"}, "fish": {"COMP_CWORD": "ev"}}
    variables = {name: f"{shell}_complete", "COMP_WORDS": f"{program} ev", **words[shell]}
    assert "evaluate" in complete(program, variables)


def complete(program: str, variables: dict[str, str]) -> str:
    code = f"from {program}.cli import main; main(prog_name={program!r})"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_book_builds_strictly_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    pytest.importorskip("mkdocstrings_handlers.python", reason="the docs extra is not installed")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(ROOT / ".mkdocs.yml"),
         "-d", str(tmp_path / "site")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    loading = re.compile(r"""<(?:script|img|iframe)[^>]*\bsrc=["']?(?:https?:)?//[^>]*>"""
                         r"""|<link[^>]*rel=["']?(?:stylesheet|preconnect)["']?[^>]*//[^>]*>"""
                         r"""|@import[^;]*//|url\(["']?(?:https?:)?//""")  # fmt: skip
    pages = [*(tmp_path / "site").rglob("*.html"), *(tmp_path / "site").rglob("*.css")]
    assert len(pages) > 20
    found = {p.name: loading.findall(p.read_text(encoding="utf-8")) for p in pages}
    assert not {name: hits for name, hits in found.items() if hits}
