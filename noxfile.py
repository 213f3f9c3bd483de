"""Sessions over Python versions and the ends of the dependency ranges: ``nox``."""

import nox

nox.options.sessions = ["check", "newest"]


@nox.session
def check(session: nox.Session) -> None:
    session.install("-e", ".[dev]", "-c", "constraints.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    """Run the suite on the lowest version of every dependency that pyproject.toml admits."""
    session.install("uv")
    session.run(
        "uv", "pip", "install", "--resolution", "lowest-direct", "-c", "tests/oldest.txt",
        "-e", ".[dev]",
    )  # fmt: skip
    session.run("pytest", "-q", "-n", "2", *session.posargs)


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """Run the suite on the newest version of everything."""
    session.install("--upgrade", "-e", ".[dev]")
    session.run("pytest", "-q", "-n", "2", *session.posargs)
