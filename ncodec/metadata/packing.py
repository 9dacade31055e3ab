"""ICC profiles, EXIF and XMP in few bytes, restored to the byte (specs/format.md, section 3, Metadata).

    | form 0 | as it is |    | form 1 | deflate, with a preset dictionary of its kind |    | form 2 | number of a known profile |

A dictionary is made of what most pictures' metadata hold, the likeliest last, where deflate's distances are short.
"""

import zlib
from functools import cache
from struct import pack

from ncodec.errors import CorruptPayloadError, LimitError
from ncodec.jpeg.dictionary import dictionary as jpeg_dictionary
from ncodec.metadata.profiles import known

STORED, DEFLATED, KNOWN = range(3)
FORMS = {"icc": (STORED, DEFLATED, KNOWN), "exif": (STORED, DEFLATED), "xmp": (STORED, DEFLATED)}
LENGTHS = {"cicp": 4, "phys": 9}  # of what is not packed

# TIFF's entries: type 2 is text, 3 uint16, 4 uint32, 5 ratio, 7 bytes, 10 signed ratio; | tag, type, count, value |, the
# value None where it varies. Exif 2.32, sections 4.6.4 to 4.6.6.
_IFD0 = [
    (0x100, 4, 1, None), (0x101, 4, 1, None), (0x10E, 2, 32, None), (0x10F, 2, 6, None), (0x110, 2, 22, None),
    (0x112, 3, 1, 6), (0x112, 3, 1, 1), (0x11A, 5, 1, None), (0x11B, 5, 1, None), (0x128, 3, 1, 2), (0x131, 2, 30, None),
    (0x132, 2, 20, None), (0x13B, 2, 1, None), (0x13E, 5, 2, None), (0x13F, 5, 6, None), (0x211, 5, 3, None),
    (0x213, 3, 1, 2), (0x213, 3, 1, 1), (0x8298, 2, 1, None), (0x8769, 4, 1, None), (0x8825, 4, 1, None),
]  # fmt: skip
_EXIF = [
    (0x829A, 5, 1, None), (0x829D, 5, 1, None), (0x8822, 3, 1, 2), (0x8827, 3, 1, 100), (0x8830, 3, 1, 2),
    (0x9000, 7, 4, b"0230"), (0x9000, 7, 4, b"0210"), (0x9000, 7, 4, b"0220"), (0x9000, 7, 4, b"0232"),
    (0x9000, 7, 4, b"0221"), (0x9003, 2, 20, None), (0x9004, 2, 20, None), (0x9010, 2, 7, None),
    (0x9011, 2, 7, None), (0x9012, 2, 7, None), (0x9101, 7, 4, b"\1\2\3\0"), (0x9102, 5, 1, None),
    (0x9201, 10, 1, None), (0x9202, 5, 1, None), (0x9203, 10, 1, None), (0x9204, 10, 1, None), (0x9205, 5, 1, None),
    (0x9206, 5, 1, None), (0x9207, 3, 1, 2), (0x9207, 3, 1, 5), (0x9208, 3, 1, 0), (0x9209, 3, 1, 16),
    (0x920A, 5, 1, None), (0x9214, 3, 4, None), (0x927C, 7, 1000, None), (0x9286, 7, 264, None), (0x9290, 2, 3, b"00\0\0"),
    (0x9291, 2, 3, b"00\0\0"), (0x9292, 2, 3, b"00\0\0"), (0xA000, 7, 4, b"0100"), (0xA001, 3, 1, 0xFFFF),
    (0xA001, 3, 1, 1), (0xA002, 4, 1, None), (0xA003, 4, 1, None), (0xA005, 4, 1, None), (0xA20E, 5, 1, None),
    (0xA20F, 5, 1, None), (0xA210, 3, 1, 2), (0xA217, 3, 1, 2), (0xA300, 7, 1, b"\3\0\0\0"), (0xA301, 7, 1, b"\1\0\0\0"),
    (0xA302, 7, 8, None), (0xA401, 3, 1, 0), (0xA402, 3, 1, 0), (0xA403, 3, 1, 0), (0xA404, 5, 1, None), (0xA405, 3, 1, 35),
    (0xA406, 3, 1, 0), (0xA407, 3, 1, 0), (0xA408, 3, 1, 0), (0xA409, 3, 1, 0), (0xA40A, 3, 1, 0), (0xA40C, 3, 1, 0),
    (0xA420, 2, 33, None), (0xA431, 2, 13, None), (0xA432, 5, 4, None), (0xA433, 2, 6, None), (0xA434, 2, 30, None),
]  # fmt: skip
_GPS = [
    (0, 1, 4, b"\2\2\0\0"), (0, 1, 4, b"\2\3\0\0"), (1, 2, 2, b"N\0\0\0"), (2, 5, 3, None), (3, 2, 2, b"E\0\0\0"), (4, 5, 3, None),
    (5, 1, 1, b"\0\0\0\0"), (6, 5, 1, None), (7, 5, 3, None), (0xC, 2, 2, b"K\0\0\0"), (0xD, 5, 1, None), (0x10, 2, 2, b"T\0\0\0"),
    (0x11, 5, 1, None), (0x12, 2, 7, None), (0x17, 2, 2, b"T\0\0\0"), (0x18, 5, 1, None), (0x1D, 2, 11, None), (0x1F, 5, 1, None),
]  # fmt: skip
_INTEROP = [(1, 2, 4, b"R03\0"), (1, 2, 4, b"R98\0"), (2, 7, 4, b"0100"), (0x1001, 3, 1, None), (0x1002, 3, 1, None)]  # fmt: skip
_THUMBNAIL = [
    (0x103, 3, 1, 6), (0x112, 3, 1, 1), (0x11A, 5, 1, None), (0x11B, 5, 1, None), (0x128, 3, 1, 2), (0x201, 4, 1, None),
    (0x202, 4, 1, None), (0x213, 3, 1, 2),
]  # fmt: skip
_RATIOS = [(1, 1), (0, 1), (0, 100), (1, 3), (1, 60), (1, 125), (28, 10), (350, 1), (180, 1), (96, 1), (300, 1), (72, 1)]  # fmt: skip
_WORDS = """\
Minolta Co., Ltd.|RICOH|JK Imaging, Ltd.|EASTMAN KODAK COMPANY|PENTAX Corporation |PENTAX|Hewlett-Packard|LGE|HUAWEI|Xiaomi|motorola|Google|Pixel |\
CASIO COMPUTER CO.,LTD.|LEICA|DJI|GoPro|FUJIFILM|FinePix |Panasonic|DMC-|OLYMPUS OPTICAL CO.,LTD|OLYMPUS IMAGING CORP.|OLYMPUS DIGITAL CAMERA|\
SONY|ILCE-|DSC-|SAMSUNG|samsung|SM-G|NIKON|COOLPIX |NIKON CORPORATION|NIKON D|Apple|iPhone |iPhone back camera |Canon|Canon EOS |Canon PowerShot |\
ACD Systems Digital Imaging|GIMP 2.10.|Picasa|Adobe Photoshop CS|Adobe Photoshop CC (Windows)|Adobe Photoshop Lightroom Classic|Adobe Photoshop |\
 (Macintosh)| (Windows)|PrintIM\x000300\0\0|FUJIFILM\x0c\0\0\0|OLYMP\0|Panasonic\0\0\0|Nikon\0\2\x10\0\0|Apple iOS\0\0\1MM\0|SONY DSC \0\0\0|\
                               |ASCII\0\0\0|UNICODE\0|2018:|2019:|2020:|2021:|2022:|2023:|2024:|2025:01:01 00:00:00|Exif\0\0""".split("|")  # fmt: skip

_XMP = """\
http://ns.google.com/photos/1.0/container/item/ http://ns.google.com/photos/1.0/container/ Container:Directory http://ns.adobe.com/hdr-gain-map/1.0/ \
http://ns.microsoft.com/photo/1.0/ http://ns.adobe.com/lightroom/1.0/ xmlns:lr lr:hierarchicalSubject http://ns.adobe.com/xap/1.0/sType/Dimensions# \
http://ns.adobe.com/xap/1.0/rights/ xmpRights:Marked="True" xmpRights:UsageTerms http://ns.adobe.com/pdf/1.3/ http://ns.adobe.com/xmp/note/ xmpNote:HasExtendedXMP \
http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/ http://iptc.org/std/Iptc4xmpExt/2008-02-29/ xmlns:Iptc4xmpCore http://ns.useplus.org/ldf/xmp/1.0/ \
iptcExt:LocationCreated iptcExt:LocationShown iptcExt:ArtworkOrObject iptcExt:RegistryId plus:ImageSupplier plus:ImageCreator plus:CopyrightOwner plus:Licensor \
http://www.gimp.org/xmp/ gimp:docid:gimp: GIMP:API="2.0" GIMP:Platform="Linux" GIMP:TimeStamp="16 GIMP:Version="2.10. \
http://cipa.jp/exif/1.0/ exifEX:LensModel http://ns.adobe.com/exif/1.0/aux/ aux:SerialNumber aux:LensInfo aux:LensID aux:Lens aux:ImageNumber aux:FlashCompensation \
crs:Version crs:ProcessVersion crs:WhiteBalance crs:Temperature crs:Tint crs:Exposure2012 crs:Contrast2012 crs:Highlights2012 crs:Shadows2012 crs:Whites2012 \
crs:Blacks2012 crs:Clarity2012 crs:HueAdjustmentRed="0" crs:SaturationAdjustmentOrange="0" crs:LuminanceAdjustmentYellow="0" Green Aqua Blue Purple Magenta \
crs:Saturation crs:Vibrance crs:Sharpness crs:LuminanceSmoothing crs:ColorNoiseReduction crs:VignetteAmount crs:Parametric crs:SplitToning crs:ToneCurve crs:GrayMixer \
crs:LensProfileEnable crs:CameraProfile="Adobe Standard" crs:HasSettings="True" crs:HasCrop="False" crs:AlreadyApplied http://ns.adobe.com/camera-raw-settings/1.0/ \
exif:ExifVersion="0221" exif:ExposureTime="1/ exif:ShutterSpeedValue exif:FNumber exif:ApertureValue exif:ExposureProgram exif:ExposureBiasValue \
exif:MaxApertureValue exif:MeteringMode exif:FocalLength exif:CustomRendered exif:ExposureMode exif:WhiteBalance exif:SceneCaptureType exif:DateTimeOriginal exif:DateTimeDigitized \
exif:ISOSpeedRatings exif:Flash exif:Fired exif:Return exif:Mode exif:Function exif:RedEyeMode exif:NativeDigest exif:GPSLatitude exif:GPSLongitude exif:ComponentsConfiguration \
tiff:ImageWidth tiff:ImageLength tiff:BitsPerSample tiff:Compression tiff:PhotometricInterpretation tiff:SamplesPerPixel tiff:PlanarConfiguration tiff:NativeDigest tiff:Make tiff:Model \
tiff:Orientation="1" tiff:XResolution="720000/10000" tiff:YResolution="720000/10000" tiff:ResolutionUnit="2" exif:ColorSpace="1" exif:PixelXDimension=" exif:PixelYDimension=" \
<exif:PixelXDimension></exif:PixelXDimension>
 <exif:PixelYDimension></exif:PixelYDimension>
 <exif:ColorSpace>1</exif:ColorSpace>
 <tiff:Orientation>1</tiff:Orientation>
 photoshop:LegacyIPTCDigest photoshop:DocumentAncestors photoshop:DateCreated photoshop:Credit photoshop:Source photoshop:City photoshop:State photoshop:Country photoshop:Headline \
photoshop:ColorMode="3" photoshop:ICCProfile="sRGB IEC61966-2.1" xap:CreateDate xap:ModifyDate xap:MetadataDate xap:CreatorTool xapMM:DocumentID xapMM:InstanceID http://ns.adobe.com/iX/1.0/ \
<dc:subject><rdf:Bag><rdf:li></rdf:li></rdf:Bag></dc:subject><dc:title><rdf:Alt><rdf:li xml:lang="x-default"></rdf:li></rdf:Alt></dc:title> \
<dc:description> <dc:creator> <rdf:Seq> <dc:rights> dc:format="image/jpeg" <dc:format>image/tiff</dc:format> dc:format="image/png" dc:Format="image/png" \
<xmp:CreatorTool>Adobe Photoshop Lightroom <xmp:CreateDate></xmp:CreateDate> <xmp:ModifyDate></xmp:ModifyDate> \
xmp:Rating="0" xmp:CreatorTool="Adobe Photoshop CC 2015 (Windows)" xmp:CreateDate="2016- xmp:ModifyDate="2017- xmp:MetadataDate="2018-01-01T00:00:00+01:00" \
<photoshop:DocumentAncestors> <rdf:Bag> <rdf:li>uuid: </rdf:li> </rdf:Bag> </photoshop:DocumentAncestors> \
<xmpMM:History> <rdf:Seq> <rdf:li stEvt:action="created" stEvt:instanceID="xmp.iid: stEvt:when="2015-01-01T00:00:00Z" stEvt:softwareAgent="Adobe Photoshop Camera Raw stEvt:changed="/metadata"/> \
<rdf:li stEvt:action="saved" stEvt:changed="/" stEvt:softwareAgent="Gimp 2.10 (Linux)" <rdf:li stEvt:action="converted" stEvt:parameters="from image/tiff to image/jpeg"/> \
<rdf:li rdf:parseType="Resource"> <stEvt:action>saved</stEvt:action> <stEvt:instanceID></stEvt:instanceID> <stEvt:when></stEvt:when> <stEvt:softwareAgent></stEvt:softwareAgent> \
</rdf:Seq> </xmpMM:History> <xmpMM:DerivedFrom stRef:instanceID="xmp.iid: stRef:documentID="xmp.did: stRef:originalDocumentID="adobe:docid:photoshop: \
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" \
xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" \
xmlns:stRef="http://ns.adobe.com/xap/1.0/sType/ResourceRef#" xmlns:xap="http://ns.adobe.com/xap/1.0/" xmlns:xapMM="http://ns.adobe.com/xap/1.0/mm/" \
xmpMM:OriginalDocumentID="xmp.did: xmpMM:DocumentID="adobe:docid:photoshop: xmpMM:DocumentID="xmp.did: xmpMM:InstanceID="xmp.iid:00000000-0000-0000-0000-000000000000"> \
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.00'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>

 <rdf:Description rdf:about=''
  xmlns:exif='http://ns.adobe.com/exif/1.0/'>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?><x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 5.6-c140 79.160451, 2017/05/06-01:08:21        ">
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   </rdf:Description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?> <x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 6.0.0"> \
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"> <rdf:Description rdf:about=""/> </rdf:RDF> </x:xmpmeta>
"""


ICC_CRC = 0xE24EDE20  # CRC-32 of all known profiles: their curves come of floats


def _directories(order: str) -> bytes:
    """Return EXIF's usual directories in a byte order: ">" or "<"."""
    out = b""
    for directory in (_GPS, _INTEROP, _THUMBNAIL, _EXIF, _IFD0):
        out += pack(f"{order}H", len(directory))
        for tag, kind, count, value in directory:
            out += pack(f"{order}HHI", tag, kind, count)
            if isinstance(value, int):
                out += pack(f"{order}HH", value, 0)
            elif value is not None:
                out += value
    out += b"".join(pack(f"{order}II", *ratio) for ratio in _RATIOS)
    return out + (b"Exif\0\0" + {">": b"MM", "<": b"II"}[order] + pack(f"{order}HI", 42, 8))


@cache
def dictionary(kind: str) -> bytes:
    """Return the preset dictionary of "icc", "exif" or "xmp". Exact: packed metadata cannot be restored with another."""
    if kind == "icc":
        made = b"".join(known())
        assert zlib.crc32(made) == ICC_CRC, (
            "curves are rounded another way by this machine's powers"
        )
        return made
    if kind == "exif":
        words = "\0".join(_WORDS).encode("latin-1")
        return jpeg_dictionary() + words + _directories(">") + _directories("<")
    padding = (" " * 100 + "\n") * 2
    return (_XMP + padding + '<?xpacket end="r"?><?xpacket end="w"?>').encode()


def packed(kind: str, value: bytes) -> bytes:
    """Return metadata as a chunk's payload: the shortest of the forms that its kind has."""
    if kind not in FORMS:
        return value
    if KNOWN in FORMS[kind] and value in known():
        return bytes([KNOWN, known().index(value)])
    engine = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=dictionary(kind))
    deflated = engine.compress(value) + engine.flush()
    return bytes([DEFLATED]) + deflated if len(deflated) < len(value) else bytes([STORED]) + value


def unpacked(kind: str, payload: bytes, place: str, limit: int) -> bytes:
    """Return the metadata in a chunk's payload.

    Args:
        kind: "icc", "exif", "xmp", "cicp" or "phys".
        payload: the chunk's.
        place: what errors name.
        limit: of the metadata's length (bytes); no more is allocated.

    Raises:
        CorruptPayloadError: `payload` is not what `packed` makes.
        LimitError: the metadata is longer than `limit`.
    """
    if kind not in FORMS:
        if len(payload) != LENGTHS[kind]:
            raise CorruptPayloadError(
                f"{place}: expected {LENGTHS[kind]} bytes, found {len(payload)}"
            )
        return payload
    if not payload or payload[0] not in FORMS[kind]:
        raise CorruptPayloadError(
            f"{place}: expected a form of {FORMS[kind]}, found {payload[:1]!r}"
        )
    form, content = payload[0], payload[1:]
    if form == KNOWN:
        if len(content) != 1 or content[0] >= len(known()):
            raise CorruptPayloadError(
                f"{place}: expected a number below {len(known())}, found {content[:4]!r}"
            )
        dictionary(kind)  # is what it must be
        content = known()[content[0]]
    if form == DEFLATED:
        engine = zlib.decompressobj(-15, zdict=dictionary(kind))
        try:
            content = engine.decompress(content, max(limit, 0) + 1)
        except zlib.error as error:
            raise CorruptPayloadError(f"{place}: {error}") from error
        if len(content) <= limit and (not engine.eof or engine.unused_data):
            raise CorruptPayloadError(f"{place}: deflate ends early, or bytes are left over")
    if len(content) > limit:
        raise LimitError(f"{place}: unpacks to more than {limit} bytes")
    return content
