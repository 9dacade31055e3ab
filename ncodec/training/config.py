"""What to train and how: a small TOML file, `--set key=value` on top, checked as a whole."""

import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin

from ncodec.configs import DIR
from ncodec.errors import InputError, named
from ncodec.nn.training import Objective
from ncodec.training.recipe import Recipe, load_recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SIZE = 4096  # of anything in a config: beyond lies a typing error


@dataclass(frozen=True)
class TrainingOptions:
    """How to train, whatever the family; specs/training.md says why these."""

    batch: int = 8  # crops a step, over all processes
    crop: int = 192  # side (pixels)
    learning_rate: float = 1e-3
    seed: int = 0
    bfloat16: bool = True


@dataclass(frozen=True)
class Config:
    """One TOML file: top-level keys, [model] and [training]."""

    name: str
    family: str
    model: Any  # the recipe's Config
    training: TrainingOptions
    tune: str  # what errors are weighed by, among the recipe's; the first, if none is given

    @property
    def recipe(self) -> Recipe:
        """How the family is trained."""
        return load_recipe(self.family)

    @property
    def objective(self) -> Objective:
        """What training lowers."""
        return self.recipe.OBJECTIVES[self.tune]

    def to_dict(self) -> dict[str, Any]:
        """Return the config as read from TOML, defaults filled in."""
        return asdict(self)


def _typed(place: str, kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` checked against a dataclass's fields."""
    types = {f.name: f.type for f in fields(kind)}
    for key, value in values.items():
        where = f"{place}.{key}" if place else key
        if key not in types:
            raise InputError(f"config: {where}: unknown; expected one of {', '.join(types)}")
        wanted = types[key]
        if wanted is float and type(value) is int:
            values[key] = float(value)
        elif get_origin(wanted) is tuple and type(value) is list:
            values[key] = tuple(value)
        elif type(value) is not wanted:
            name = getattr(wanted, "__name__", str(wanted))
            raise InputError(f"config: {where}: expected {name}, found {value!r}")
    return values


def _assign(table: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {assignment}: expected KEY=VALUE, such as training.batch=16")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string
    *path, last = key.strip().split(".")
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {assignment}: {part} is not a table")
    table[last] = value


def read_config(path: str | Path, assignments: list[str] = []) -> Config:  # noqa: B006
    """Return the config in a TOML file, or of a shipped model by its name.

    Args:
        path: file, or the name of one of the configs that come with ncodec.
        assignments: "table.key=value" each, values in TOML's notation.

    Raises:
        InputError: no such file, not TOML, an unknown key, a wrong type or value.
    """
    file = Path(path)
    if not file.is_file() and (DIR / f"{path}.toml").is_file():
        file = DIR / f"{path}.toml"
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        shipped = ", ".join(sorted(p.stem for p in DIR.glob("*.toml")))
        raise InputError(
            f"{path}: {error.strerror}; expected a TOML file or one of {shipped}"
        ) from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, a name with a zero byte
        raise InputError(f"{path}: not a TOML file ({error})") from error
    for assignment in assignments:
        _assign(table, assignment)
    top: dict[str, Any] = {"name": file.stem, "family": "", "tune": ""} | table
    model, training = top.pop("model", {}), top.pop("training", {})
    if not isinstance(model, dict) or not isinstance(training, dict):
        raise InputError(f"{path}: expected tables [model] and [training]")
    _typed("", Config, top)
    with named("config: "):
        recipe = load_recipe(top["family"])
    top["tune"] = top["tune"] or next(iter(recipe.OBJECTIVES))
    _typed("model", recipe.Config, model)
    with named("config: model."):
        sizes = recipe.Config(**model)
    options = TrainingOptions(**_typed("training", TrainingOptions, training))
    config = Config(**top, model=sizes, training=options)
    _check(config)
    return config


def _check(config: Config) -> None:
    training, stride = config.training, config.recipe.CROP_STRIDE
    is_crop = stride <= training.crop <= MAX_SIZE and training.crop % stride == 0
    sizes = {key: value for key, value in asdict(config.model).items() if type(value) is int}
    tunes = config.recipe.OBJECTIVES
    checks = [
        ("tune", config.tune in tunes, f"one of {', '.join(tunes)}", config.tune),
        ("training.batch", 1 <= training.batch <= MAX_SIZE, f"1 to {MAX_SIZE}", training.batch),
        ("training.crop", is_crop, f"a multiple of {stride} pixels up to {MAX_SIZE}", training.crop),
        ("training.learning_rate", 0 < training.learning_rate < 1, "between 0 and 1", training.learning_rate),
        ("training.seed", 0 <= training.seed < 2**63, "0 to 2**63 - 1", training.seed),
        *((f"model.{key}", 1 <= value <= MAX_SIZE, f"1 to {MAX_SIZE}", value)
          for key, value in sizes.items()),
    ]  # fmt: skip
    for key, holds, expected, found in checks:
        if not holds:
            raise InputError(f"config: {key}: expected {expected}, found {found!r}")
