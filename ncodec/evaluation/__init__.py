"""How good is a codec, on these images, from real files? Rate-distortion curves, BD-rates, reports.

    peers/      pixels -> bytes of a file -> pixels, for each codec that can be measured
    cells.py    one image, codec, quality -> rate, metrics, seconds, memory; the cache
    study.py    many cells -> curves, JSON; published anchors
    rates.py    curves -> BD-rates of means and of images, values at rates, spread of looks
    report.py   HTML, plots, Markdown
    bench.py    speed of the coders and of whole codecs

>>> from ncodec.evaluation import bd_rate, find_anchor
>>> print(f"{bd_rate(find_anchor('av1'), find_anchor('vtm')).percent:+.1f} %")
+16.2 %
"""

from ncodec.evaluation.cells import Cache, compare, default_cache
from ncodec.evaluation.peers import CODECS, Codec, codec_name, parse_codec
from ncodec.evaluation.rates import (
    BdRate,
    ImageBdRates,
    bd_rate,
    bd_rate_of_images,
    bd_table,
    looks,
    spread_at,
    value_at,
)
from ncodec.evaluation.report import write_report
from ncodec.evaluation.study import (
    Image,
    RDCurve,
    Study,
    find_anchor,
    list_anchors,
    rd_curve,
    read_curves,
    read_image,
    to_json,
)
from ncodec.search import Target, parse_quality

__all__ = [
    "CODECS",
    "BdRate",
    "Cache",
    "Codec",
    "Image",
    "ImageBdRates",
    "RDCurve",
    "Study",
    "Target",
    "bd_rate",
    "bd_rate_of_images",
    "bd_table",
    "codec_name",
    "compare",
    "default_cache",
    "find_anchor",
    "list_anchors",
    "looks",
    "parse_codec",
    "parse_quality",
    "rd_curve",
    "read_curves",
    "read_image",
    "spread_at",
    "to_json",
    "value_at",
    "write_report",
]
