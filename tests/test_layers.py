"""The house: imports point downwards, and the registry is what specs/registry.md says."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

from ncodec import families

LEVELS = {
    "ncodec.errors": 0,
    "ncodec.files": 0,
    "ncodec.families": 0,
    "ncodec.quality": 0,
    "ncodec.search": 0,
    "ncodec.threads": 0,
    "ncodec.bytestream": 0,
    "ncodec.parallel": 1,
    "ncodec.anchors": 1,
    "ncodec.entropy": 1,
    "ncodec.weights": 1,
    "ncodec.configs": 1,
    "ncodec.container": 2,
    "ncodec.dct": 2,
    "ncodec.exact": 2,
    "ncodec.image": 2,
    "ncodec.metadata": 2,
    "ncodec.jpeg": 2,
    "ncodec.lossless": 2,
    "ncodec.metrics": 3,
    "ncodec.coder": 3,
    "ncodec.nn": 3,
    "ncodec.models": 4,
    "ncodec.tiles": 5,
    "ncodec.shards": 5,
    "ncodec.inspection": 5,
    "ncodec.codec": 6,
    "ncodec.tokens": 6,
    "ncodec.selftest": 6,
    "ncodec.training": 6,
    "ncodec.evaluation": 7,
    "ncodec.imageio": 7,
    "ncodec.pillow": 7,
    "ncodec": 7,
    "ncodec.cli": 8,
}
# Sideways inside a level: models and nn speak of latents and qualities that the coder and container define.
FILES = sorted((ROOT / "ncodec").rglob("*.py")) + sorted((ROOT / "cli").glob("*.py"))


def level_of(module):
    parts = module.split(".")
    while ".".join(parts) not in LEVELS:
        parts.pop()
    return LEVELS[".".join(parts)]


def module_of(path: Path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("ncodec", *parts) if parts[0] == "cli" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in LEVELS else node.module


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path):
    module = module_of(path)
    room = level_of(module)
    for name in imports_of(path):
        if name == "ncodec" and module.startswith("ncodec.cli"):
            continue
        if module == "ncodec.__main__":
            continue  # starts the command line
        if name.split(".")[0] == "ncodec":
            assert level_of(name) <= room, f"{module} (level {room}) imports {name}"
        assert name.split(".")[0] not in (
            "cli",
            "configs",
            "weights",
            "kodak_eval",
            "torchvision",
        ), f"{module} imports {name}"


@pytest.mark.parametrize(
    "room",
    [
        "container",
        "entropy",
        "dct",
        "jpeg",
        "exact",
        "coder/__init__.py",
        "models/dct",
        "models/jpeg",
        "tiles.py",
        "tokens.py",
        "shards.py",
        "selftest.py",
    ],
)
def test_rooms_that_know_no_torch(room):
    path = ROOT / "ncodec" / room
    for file in set(path.glob("*.py")) - {path / "device.py"} if path.is_dir() else [path]:
        assert "torch" not in {name.split(".")[0] for name in imports_of(file)}


def test_exact_networks_know_torch_only_on_a_device():
    """ncodec.exact.device is all of that room that torch is in, and comes with no module that does without."""
    device = ROOT / "ncodec" / "exact" / "device.py"
    assert "torch" in imports_of(device)
    for path in FILES:
        top = {getattr(node, "module", None) for node in ast.parse(path.read_text()).body}
        if "ncodec.exact.device" in top:
            assert "torch" in imports_of(path), f"{module_of(path)}: import it where it is used"


NAMES = {family.name for family in families.FAMILIES}


@pytest.mark.parametrize(
    "room",
    [
        "container",
        "tiles.py",
        "coder",
        "nn",
        "selftest.py",
        "training/loop.py",
        "training/config.py",
    ],
)
def test_rooms_that_know_no_family(room):
    """A new family touches none of them: its name is in no text of theirs that runs."""
    path = ROOT / "ncodec" / room
    for file in path.glob("*.py") if path.is_dir() else [path]:
        tree = ast.parse(file.read_text())
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not words & NAMES and "ncodec.models.hyperprior" not in "".join(imports_of(file))
