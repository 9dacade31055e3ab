"""Published rate-distortion curves on Kodak, a JSON file a curve with its source; see `ncodec.evaluation`.

kodak-images.txt holds the digests of the 24 images (`ncodec.evaluation.cells.digest_of`), so that a study of
other images is not compared with them unawares.
"""

from pathlib import Path

DIR = Path(__file__).parent
