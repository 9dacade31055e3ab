"""`ncodec models`: the models that are shipped."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from ncodec.cli.batch import exit_code, print_error
from ncodec.cli.options import Json

from ncodec.errors import NcodecError

if TYPE_CHECKING:
    from ncodec.models.weights import Model


def models(
    as_json: Json = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check digests and decode each model's self-test.")
    ] = False,
) -> None:
    """List the shipped models, the first is the default; then those without weights."""
    from ncodec.families import FAMILIES
    from ncodec.inspection import list_models

    codes = []
    for entry in list_models():
        if verify:
            from ncodec.selftest import verify as verify_model

            try:
                verify_model(entry)
            except NcodecError as error:
                print_error(error)
                codes.append(exit_code(error))
                continue
        if as_json:
            shown = {k: v for k, v in asdict(entry).items() if k != "self_test"}
            print(json.dumps(shown | ({"verified": True} if verify else {})))
            continue
        parts = (
            f"{entry.name} ({entry.family})",
            _facts(entry),
            "verified" if verify else "",
        )
        print(": ".join(part for part in parts if part))
    if not (as_json or verify):
        for family in FAMILIES:
            if not family.has_weights and family.holds == "tiles":
                print(f"{family.name}: no weights")
    if codes:
        raise SystemExit(max(codes))


def _facts(entry: "Model") -> str:
    """Return what is known of a model, in words."""
    facts, about = [f"tune {entry.tune}"], entry.about
    if "parameters" in about:
        facts.append(f"{about['parameters'] / 1e6:.1f} M parameters")
    if "parameters_bytes" in about:
        facts.append(f"{about['parameters_bytes'] / 1e3:.0f} kB of parameters, exact pixels")
    if "kmac_per_pixel" in about:
        facts.append(f"{about['kmac_per_pixel']:.1f} kMAC/pixel to decode")
    if "efforts" in about:
        facts.append(f"effort {'/'.join(map(str, about['efforts']))}")
    if "kodak_bd_rate_vs_vtm_percent" in about:
        facts.append(f"Kodak BD-rate vs VTM {about['kodak_bd_rate_vs_vtm_percent']:+.1f} %")
    if "training_steps" in about:
        facts.append(
            f"trained {about['training_steps']} steps, {about['training_minutes']:.0f} min"
            f" on {about.get('training_device', 'an unknown device')}"
        )
    return ", ".join(facts)
