"""Committed streams decode for ever: the same integers, or exact pixels; floats' pixels within 1 (tests/vectors/README.md)."""

import json

import numpy as np
import pytest
import reference_rans
from conftest import ROOT
from make_vectors import facts_of
from PIL import Image

import ncodec
from ncodec.container import read
from ncodec.entropy import FrequencyTables, decode_symbols, encode_symbols, variants
from ncodec.entropy.binary import BinaryDecoder, BinaryEncoder
from ncodec.families import FAMILIES

FOLDER = ROOT / "tests" / "vectors" / "v1"
CODER = json.loads((FOLDER / "coder.json").read_text())
EXPECTED = json.loads((FOLDER / "vectors.json").read_text())


def test_none_is_missing():
    files = {path.stem for path in FOLDER.glob("*.nc")}
    assert files == set(EXPECTED) and len(files) >= 9


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("name", [name for name in CODER if name.startswith("rans")])
def test_rans_payload(name, variant):
    v = CODER[name]
    frequencies = np.zeros((len(v["frequencies"]), max(map(len, v["frequencies"]))), np.uint16)
    for row, values in zip(frequencies, v["frequencies"], strict=True):
        row[: len(values)] = values
    tables, payload = FrequencyTables(frequencies), bytes.fromhex(v["payload"])
    indexes, symbols = np.array(v["indexes"], np.uint16), np.array(v["symbols"], np.int32)
    skip, lanes, chunks = v["skip_below"], v["lanes"], v["chunks"]
    decoded = decode_symbols(payload, indexes, tables, skip, variant=variant)
    np.testing.assert_array_equal(decoded, symbols)
    assert encode_symbols(symbols, indexes, tables, skip, lanes, chunks, 1, variant) == payload
    assert reference_rans.decode(payload, v["indexes"], v["frequencies"], skip) == v["symbols"]


def test_binary_payload():
    v = CODER["binary"]
    contexts, payload = np.array(v["contexts"], np.uint16), bytes.fromhex(v["payload"])
    decoder = BinaryDecoder(payload, 4)
    assert decoder.decode(contexts).tolist() == v["bins"]
    decoder.finish()
    encoder = BinaryEncoder(4)
    encoder.encode(np.array(v["bins"], np.uint8), contexts)
    assert encoder.finish() == payload


def test_no_coder_payload_is_missing():
    lanes = {(v["lanes"], v["chunks"]) for name, v in CODER.items() if name.startswith("rans")}
    assert lanes >= {(1 << k, chunks) for k in range(6) for chunks in (1, 3)} and "binary" in CODER


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_vector(name, device):
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data = (FOLDER / f"{name}.nc").read_bytes()
    assert facts_of(data, device) == EXPECTED[name]
    with Image.open(FOLDER / f"{name}.png") as picture:
        assert np.array_equal(ncodec.decode(data, "numpy", device=device), np.asarray(picture))


def test_no_family_is_missing():
    """Of those that have a shipped model, or need none."""
    shipped = {model.family for model in ncodec.list_models()}
    families = {read((FOLDER / f"{name}.nc").read_bytes()).header.family for name in EXPECTED}
    assert families == {
        family.wire_id for family in FAMILIES if family.name in shipped or not family.has_weights
    }
