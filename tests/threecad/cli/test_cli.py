"""Both command lines: help, examples, errors for people, instant start."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command_lines import GROUPS, run_line

import threecad
from threecad.benchmark import running
from threecad.benchmark.trials import attempt_trial

# What an example may only do where there is a network, a browser or a GPU.
NEEDS_MORE = {"threecad download", "cfrg app", "cfrg monitor", "cfrg serve", "threecad push"}

# Examples of what other tests prove in less time.
LONG = ("threecad demo", "cfrg bench run", "cfrg export run")


def commands() -> list[tuple[str, click.Command]]:
    return [
        (f"{group} {name}", command)
        for group, main in GROUPS.items()
        for name, command in sorted(main.commands.items())
    ]


def example_lines(command: click.Command) -> list[str]:
    lines = (command.epilog or "").replace(" \\\n", " ").splitlines()
    return [" ".join(line.split())[2:] for line in lines if line.strip().startswith("$ ")]


@pytest.fixture(scope="module")
def example_folder(prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the prepared folder, in which examples may leave what they write."""
    return shutil.copytree(prepared_folder, tmp_path_factory.mktemp("examples") / "folder")


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_every_command_has_help_with_an_example(name: str, command: click.Command) -> None:
    assert command.help, f"{name} has no help"
    lines = example_lines(command)
    assert lines, f"{name} has no example"
    assert all(line.startswith(f"{name} ") or line == name for line in lines)
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=pytest.mark.slow if line.startswith(LONG) else ())
     for name, command in commands() if name not in NEEDS_MORE
     for line in example_lines(command)],
)  # fmt: skip
def test_examples_run(example_folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example_folder)
    monkeypatch.setenv("THREECAD_ROOT", str(example_folder / "3cad"))
    monkeypatch.setattr(running, "run_process", attempt_trial)  # starting a process takes seconds
    result = run_line(line)
    assert result.exit_code == 0, f"$ {line}\n{result.output}"


@pytest.mark.parametrize(
    ("line", "message", "code"),
    [
        ("threecad info nowhere", "There is no folder nowhere", 1),
        ("threecad info 3cad --category Nope", "No category 'Nope'", 2),
        ("cfrg evaluate nowhere 3cad", "is not a run folder", 1),
        ("cfrg predict run nowhere --out x", "There is no file or folder nowhere", 1),
        ("cfrg train 3cad --category Copper_Stator --out run", "holds a run already", 2),
        ("cfrg predict run 3cad --out predictions", "is not empty", 2),
    ],
)
def test_mistakes_get_one_clear_message(
    example_folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str, code: int
) -> None:
    monkeypatch.chdir(example_folder)
    result = run_line(line)
    assert result.exit_code == code
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_steps_and_epochs_exclude_each_other(example_folder: Path) -> None:
    result = run_line("cfrg train 3cad --category Copper_Stator --out x --steps 1 --epochs 1")
    assert result.exit_code == 2
    assert "not both" in result.output


@pytest.mark.parametrize("program", GROUPS)
def test_runs_as_a_module_and_knows_its_version(program: str) -> None:
    output = subprocess.run(
        [sys.executable, "-m", f"{program}.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == f"{program}, version {threecad.__version__}"
