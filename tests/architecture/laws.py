"""The laws of the house as functions of a source tree, so that they can be tried on planted faults.

A law returns what breaks it, one line each; an empty list is a house in order.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ORDER = {
    "threecad": (
        ("errors", "version"),
        ("system",),
        ("images",),
        ("dataset",),
        (
            "fetching",
            "procedural",
            "verification",
            "auditing",
            "statistics",
            "formats",
            "evaluation",
        ),
        ("pages", "metrics"),
        ("benchmark", "hub"),
        ("diagnosis",),
        ("cli",),
    ),
    "cfrg": (
        ("devices", "run_folder"),
        ("teachers",),
        ("network",),
        ("memory",),
        ("images", "runtimes"),
        ("defects", "inference"),
        ("training", "export", "server"),
        ("calibration", "evaluation", "app", "monitoring"),
        ("cli",),
    ),
}
"""Rooms of each package from the ground up; those on one floor do not import each other."""

ALIKE = ("threecad/cli", "cfrg/cli", "threecad/formats/layouts")
"""Folders of files that are all of one kind, of which there may be any number."""

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}

MOST_ROOMS, MOST_LOOSE, MOST_FILES, MOST_LINES = 15, 3, 16, 400
DOORS = {"metrics"}
"""Rooms of two lines that only hand on names; they do not count as rooms."""


def find_modules(root: Path) -> dict[str, Path]:
    """Return every module of both packages, by its dotted name."""
    found = {}
    for package in ORDER:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def find_imports(root: Path) -> dict[str, set[str]]:
    """Return the modules that each module imports, anywhere in it and for type checkers, too."""
    modules = find_modules(root)
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets: set[str] = set()
        for node in _import_statements(path.read_text(encoding="utf-8")):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            else:
                base = _absolute(node, name, path)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    targets.add(inner if inner in modules else base)
        graph[name] = {target for target in targets if target in modules} - {name}
    return graph


@cache
def _import_statements(text: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    nodes = ast.walk(ast.parse(text))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def _absolute(node: ast.ImportFrom, name: str, path: Path) -> str:
    """Return the module that a ``from`` names, also where it is relative."""
    if not node.level:
        return node.module or ""
    depth = node.level - (path.name == "__init__.py")
    base = name.split(".")[: len(name.split(".")) - depth]
    return ".".join([*base, *filter(None, [node.module])])


def room_of(module: str) -> str:
    """Return the room of a module: ``threecad.images`` of ``threecad.images.masks``."""
    return ".".join(module.split(".")[:2])


def imports_upwards(root: Path) -> list[str]:
    """Rooms import only from rooms below them; nothing but the outside imports a package root."""
    floor = {
        f"{package}.{room}": number
        for package, floors in ORDER.items()
        for number, rooms in enumerate(floors)
        for room in rooms
    }
    faults = []
    for module, targets in find_imports(root).items():
        if module in ORDER:
            continue
        for target in sorted(targets):
            here, there = room_of(module), room_of(target)
            if here == there:
                continue
            if target in ORDER:
                faults.append(f"{module} imports the root of {target}")
            elif here not in floor or there not in floor:
                faults.append(f"{here if here not in floor else there} is no room of the plan")
            elif here.startswith("threecad.") and there.startswith("cfrg."):
                faults.append(f"{module} imports {target}: threecad knows nothing of cfrg")
            elif here.split(".")[0] == there.split(".")[0] and floor[there] >= floor[here]:
                faults.append(f"{module} imports {target}, which is not below it")
    return faults


def circles(root: Path) -> list[str]:
    """No circle of imports between files, type-only imports included.

    The roots are left out: nothing inside imports them (``imports_upwards``).
    """
    graph = {name: targets - {*ORDER} for name, targets in find_imports(root).items()}
    done: set[str] = set()
    faults: list[str] = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            faults.append(" → ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for target in sorted(graph.get(name, ())):
                # A package's `__init__` hands on what its own modules define.
                if not name.startswith(f"{target}."):
                    visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    return faults


def crowded(root: Path) -> list[str]:
    """A package shows few rooms and loose files, a room few files, a module few lines."""
    faults = []
    for package in ORDER:
        top = root / package
        rooms = [p.name for p in top.iterdir() if (p / "__init__.py").is_file()]
        loose = [p.name for p in top.glob("*.py") if p.name != "__init__.py"]
        if len({*rooms} - DOORS) > MOST_ROOMS:
            faults.append(f"{package} has {len(rooms)} rooms")
        if len(loose) > MOST_LOOSE:
            faults.append(f"{package} has {len(loose)} loose modules: {', '.join(sorted(loose))}")
        for folder in sorted({path.parent for path in top.rglob("*.py")} - {top}):
            name = folder.relative_to(root).as_posix()
            number = len(list(folder.glob("*.py")))
            if number > MOST_FILES and name not in ALIKE:
                faults.append(f"{name} has {number} files")
    for name, path in find_modules(root).items():
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= MOST_LINES:
            faults.append(f"{name} has {lines} lines")
    return faults


def drawers(root: Path) -> list[str]:
    """No module or room is a drawer for everything."""
    return [name for name in find_modules(root) if DRAWERS & {*name.split(".")}]


def unmirrored(root: Path) -> list[str]:
    """Every folder of tests is a room, and every room has one."""
    beside = {"docs", "architecture", "tools"}
    tests = root / "tests"
    faults = [f"{p.name} is in no room" for p in tests.glob("test_*.py")]
    rooms = {
        f"{package}/{path.parent.name}"
        for package in ORDER
        for path in (root / package).glob("*/__init__.py")
    } - {f"threecad/{door}" for door in DOORS}
    tested = {
        path.parent.relative_to(tests).as_posix()
        for path in tests.rglob("test_*.py")
        if path.parent != tests
    }
    faults += [f"{room} has no tests" for room in sorted(rooms - tested)]
    return faults + [f"tests/{room} is no room" for room in sorted(tested - rooms - beside)]


def describe_rooms(root: Path) -> list[str]:
    """Return the tree of both packages, two levels deep, as CONTRIBUTING prints it.

    Each room and each loose module stands with the first sentence of its docstring.
    """
    lines = []
    for package, floors in ORDER.items():
        lines.append(f"{package}/")
        for room in (room for floor in floors for room in floor):
            path = root / package / room / "__init__.py"
            name = f"{room}/"
            if not path.is_file():
                path, name = root / package / f"{room}.py", f"{room}.py"
            said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(f"  {name:<15}{said.splitlines()[0] if said else ''}".replace("``", ""))
    return lines


def unlisted(root: Path) -> list[str]:
    """CONTRIBUTING prints every room with what its docstring says it is for."""
    printed = (root / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    described = describe_rooms(root)
    plan = {f"{package}/{room}" for package in ORDER for floor in ORDER[package] for room in floor}
    rooms = {
        path.parent.relative_to(root).as_posix()
        for package in ORDER
        for path in (root / package).glob("*/__init__.py")
    }
    return [
        f"CONTRIBUTING.md has no line '{line}'" for line in described if line not in printed
    ] + [f"{room} is in no tree of CONTRIBUTING.md" for room in sorted(rooms - plan)]


FLAG = re.compile(r"(?<![\w-])(?<!var\()--[a-z][a-z-]+")
COMMAND = re.compile(r"`[^`]*\b(threecad|cfrg) [^`]*`")


def speaks_command_line(root: Path) -> list[str]:
    """Messages outside ``cli`` name parameters, not flags; a whole command to type may stand there.

    The command line puts its flags in place of parameters (``threecad.cli.group.name_flags``).
    """
    faults = []
    for name, path in find_modules(root).items():
        if room_of(name).endswith(".cli"):
            continue
        for text, line in _texts(path.read_text(encoding="utf-8")):
            if found := FLAG.search(COMMAND.sub("", text)):
                faults.append(f"{name}, line {line}, names the flag {found[0]}")
    return faults


def _texts(source: str) -> list[tuple[str, int]]:
    """Return the texts of a module that are no docstrings, f-strings with … for their values."""
    tree = ast.parse(source)
    skipped = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [v if isinstance(v, ast.Constant) else None for v in node.values]
            skipped |= {id(part) for part in parts}
            whole = "".join("…" if part is None else str(part.value) for part in parts)
            texts.append((whole, node.lineno))
    texts += [
        (node.value, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in skipped
    ]
    return texts


LAWS = (
    imports_upwards,
    circles,
    crowded,
    drawers,
    unmirrored,
    unlisted,
    speaks_command_line,
)
