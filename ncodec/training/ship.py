"""Puts trained weights among the shipped models: `python -m ncodec.training.ship RUN_FOLDER|WEIGHTS_FILE [--name NAME]`.

    weights --> weights/NAME.safetensors, weights/index.json: digest, self-test, what is known of them
        \\--> in a checkout, what names their digest: test vectors, attacks, seeds of the fuzzers

The entry takes the place of the one of the same name; other models stay as they are, the first is the default. Of a
model in two tunes each has its own entry, NAME-visual and NAME-psnr: where there was one, NAME, it gets its tune's name.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ncodec.errors import InputError, NcodecError
from ncodec.files import write_whole
from ncodec.models.weights import TUNES, base_of
from ncodec.training.export import facts_of, index_entry
from ncodec.training.record import write_json
from ncodec.weights import DIR


def ship(source: Path, name: str | None, folder: Path) -> dict[str, Any]:
    """Copy weights into a folder with an index.json; return their entry there.

    Args:
        source: run folder of `ncodec train`, or a weights file.
        name: of the model; None: what the weights say.
        folder: where index.json is.

    Raises:
        InputError: not a finished run, or no such file; a name that ends in another tune than theirs.
        WeightsMismatchError: not weights that this ncodec can run.
    """
    file = source / "model.safetensors" if source.is_dir() else source
    if not file.is_file():
        kind = "a finished run" if source.is_dir() else "a run folder or a weights file"
        raise InputError(f"{source}: not {kind}: {file} is missing")
    index = folder / "index.json"
    models: list[dict[str, Any]] = json.loads(index.read_text())["models"]
    entry = index_entry(file, facts_of(file))
    for known in (file.parent / "index.json", index):
        entry["about"] |= _said(known, entry["sha256"])
    entry["name"] = name or entry["name"]
    entry["file"] = f"{entry['name']}.safetensors"
    for tune in TUNES:
        if tune != entry["tune"] and entry["name"].endswith(f"-{tune}"):
            raise InputError(
                f"{entry['name']}: expected weights of tune {tune}, found {entry['tune']}"
            )
    write_whole(folder / entry["file"], file.read_bytes())
    write_json(index, {"models": _with_entry(models, entry, folder)})
    return entry


def _with_entry(
    models: list[dict[str, Any]], entry: dict[str, Any], folder: Path
) -> list[dict[str, Any]]:
    """Return the models of an index with one more entry, or another one; of several tunes all are named by theirs."""
    base = _base(entry)
    places = [place for place, known in enumerate(models) if _base(known) == base]
    tunes = {models[place]["tune"]: models[place] for place in places}
    replaced = tunes.get(entry["tune"], entry)
    tunes[entry["tune"]] = entry
    if len(tunes) > 1 or {entry["name"], replaced["name"]} != {base}:
        for tune, model in tunes.items():
            old = folder / model["file"]
            model["name"] = f"{base}-{tune}"
            model["file"] = f"{model['name']}.safetensors"
            old.rename(folder / model["file"])
    if replaced["file"] != entry["file"]:
        (folder / replaced["file"]).unlink(missing_ok=True)
    usual_first = sorted(tunes.values(), key=lambda model: model["tune"] != TUNES[0])
    others = [known for known in models if _base(known) != base]
    place = places[0] if places else len(models)
    return [*others[:place], *usual_first, *others[place:]]


def _base(entry: dict[str, Any]) -> str:
    return base_of(entry["name"], entry["tune"])


def _said(index: Path, sha256: str) -> dict[str, Any]:
    """Return what an index.json, if there is one, says about weights."""
    models = json.loads(index.read_text())["models"] if index.is_file() else []
    return next((model["about"] for model in models if model.get("sha256") == sha256), {})


def dependents(entry: dict[str, Any], folder: Path) -> list[list[str]]:
    """Return the commands that write again what names the weights of an entry of folder/index.json, in a checkout."""
    scripts = (
        ["make_vectors.py", entry["family"]],
        ["attacks/make_attacks.py"],
        ["fuzz/make_seeds.py"],
    )
    tests = folder.resolve().parent / "tests"
    return [[sys.executable, str(tests / script), *more] for script, *more in scripts]


def main(
    source: Annotated[Path, typer.Argument(help="Run folder of ncodec train, or a weights file.")],
    name: Annotated[str | None, typer.Option(help="Of the model; default: its own.")] = None,
) -> None:
    """Put trained weights among the shipped models, and write again what depends on them."""
    entry = ship(source, name, DIR)
    print(f"{entry['name']}: {entry['sha256']}")
    if not (DIR.resolve().parent / "tests" / "make_vectors.py").is_file():
        return  # not a checkout
    for command in dependents(entry, DIR):
        print(" ".join(command), flush=True)
        subprocess.run(command, check=True)
    print("Next: pytest; git status weights tests; kodak_eval/run.py measure, which writes the BD-rates of the "
          "README and of weights/index.json.")  # fmt: skip


if __name__ == "__main__":
    try:
        typer.run(main)
    except (NcodecError, subprocess.CalledProcessError) as error:
        sys.exit(f"ship: {error}")
