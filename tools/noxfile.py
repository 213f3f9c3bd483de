"""Sessions over Python versions and the ends of the dependency ranges: nox -f tools/noxfile.py."""

from pathlib import Path

import nox

ROOT = Path(__file__).parent.parent

nox.options.sessions = ["check", "newest"]
nox.options.envdir = str(ROOT / ".nox")


@nox.session
def check(session: nox.Session) -> None:
    """Run the linter, the formatter and the type checker on the pinned versions."""
    session.chdir(ROOT)
    session.install("-e", ".[dev]", "-c", ".ci/constraints.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the book."""
    session.chdir(ROOT)
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", "-f", ".mkdocs.yml")


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """Run the suite on the lowest version of every dependency that pyproject.toml admits."""
    session.chdir(ROOT)
    session.install("uv")
    session.run(
        "uv", "pip", "install", "--resolution", "lowest-direct", "-c", "tests/oldest.txt",
        "-e", ".[dev]",
    )  # fmt: skip
    session.run("pytest", "-q", "-n", "2", *session.posargs)


@nox.session(python="3.14")
def newest(session: nox.Session) -> None:
    """Run the suite on the newest version of everything."""
    session.chdir(ROOT)
    session.install("--upgrade", "-e", ".[dev]")
    session.run("pytest", "-q", "-n", "2", *session.posargs)


EXTRAS = {
    "app": ["cfrg/app", "threecad/images"],
    "bench": ["threecad/benchmark"],
    "cluster": [
        "threecad/system/test_parallel.py",
        "cfrg/training/test_distributed.py",
        "threecad/evaluation/test_metrics_distributed.py",
    ],
    "onnx": ["cfrg/export/test_exporting.py"],
    "openvino": ["cfrg/export/test_exporting.py", "cfrg/export/test_repositories.py"],
    "serve": ["cfrg/server"],
}
"""The tests of each extra, in the versions it resolves to: one may ask for an older library."""

TOOLS = ["hypothesis>=6.115", "pytest>=8.3", "pytest-xdist>=3.6", "scikit-image>=0.24"]


@nox.session(python="3.11")
@nox.parametrize("end", ["oldest", "newest"])
@nox.parametrize("extra", list(EXTRAS))
def extra(session: nox.Session, extra: str, end: str) -> None:
    """Run the tests of one extra on the lowest or newest versions that it admits."""
    session.chdir(ROOT)
    session.install("uv")
    resolution = ["--resolution", "lowest-direct", "-c", "tests/oldest.txt"]
    session.run(
        "uv", "pip", "install", *(resolution if end == "oldest" else []),
        "-e", f".[{extra}]", *TOOLS,
    )  # fmt: skip
    session.run("pytest", "-q", *(f"tests/{name}" for name in EXTRAS[extra]), *session.posargs)
