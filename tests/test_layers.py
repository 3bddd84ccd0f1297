"""Dependencies point down: what each folder may import of ours."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "undiffuse"
EVERYTHING = {
    "options",
    "registry",
    "config",
    "core",
    "data",
    "networks",
    "priors",
    "samplers",
    "operators",
    "restore",
    "metrics",
    "app",
    "assets",
    "training",
    "checkpoints",
    "contracts",
    "interop",
    "analysis",
    "distil",
}
MAY_IMPORT: dict[str, set[str]] = {
    "options": set(),
    "registry": {"options"},
    "config": {"options", "registry"},
    "core": set(),
    "data": {"core", "registry"},
    "metrics": {"core"},
    "networks": {"registry"},
    "priors": {"core", "registry"},
    "checkpoints": {"core", "config", "networks", "priors", "registry"},
    "samplers": {"core", "priors", "registry"},
    "operators": {"core", "config", "registry"},  # config: operators/build.py reads options from text
    "restore": {"core", "operators", "samplers", "registry"},  # a conditional denoiser goes into any sampler
    "training": {"core", "operators", "priors"},  # operators: what super-resolution is conditioned on
    "distil": {
        "core",
        "checkpoints",
        "networks",
        "operators",
        "priors",
        "registry",
        "restore",
        "samplers",
        "training",
    },
    "interop": {"core", "operators", "priors", "restore"},
    "analysis": {"core", "metrics", "operators", "priors"},
    "contracts": {"core", "priors", "operators", "restore", "registry"},
    "app": EVERYTHING,
    "cli": EVERYTHING | {"commands"},
    "commands": EVERYTHING,
    "__init__": EVERYTHING,
    "__main__": {"cli"},
    "assets": set(),
}


def imports(path: Path) -> set[str]:
    """Rooms of ours that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("undiffuse.")}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert imports(path) - {room} <= MAY_IMPORT[room]


def test_every_room_is_listed():
    rooms = {
        p.name.removesuffix(".py")
        for p in SOURCE.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert rooms == set(MAY_IMPORT)


def files(path: Path) -> set[Path]:
    """Files of ours that a file imports, inside functions and for types too."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("undiffuse."):
            place = SOURCE.joinpath(*str(node.module).split(".")[1:])
            near = [place / alias.name for alias in node.names]
            for it in [it if it.with_suffix(".py").exists() or it.is_dir() else place for it in near]:
                found.add(it / "__init__.py" if it.is_dir() else it.with_suffix(".py"))
    return found - {path}


def test_no_files_import_each_other():
    """Nor in a circle of several: what imports none that is left, or is imported by none, goes until circles remain."""
    sources = set(SOURCE.rglob("*.py"))
    left = {path: files(path) & sources for path in sources}
    while free := {path for path in left if not left[path]} | (set(left) - set().union(*left.values())):
        left = {path: below - free for path, below in left.items() if path not in free}
    assert not {str(path.relative_to(SOURCE)) for path in left}
