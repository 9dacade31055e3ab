"""What files say beside pixels: colour, EXIF, XMP, density.

image file --pictures.of_image--> Picture.metadata --packing.packed--> chunks of an .nc file
image file <--pictures.options_for-- Picture.metadata <--packing.unpacked-- chunks

pictures   metadata of image files <-> of pictures; what is not carried is said
colour     what says colour but an ICC profile: cICP, gAMA and cHRM, TIFF's and EXIF's tags
exif       directories of EXIF
icc        profiles from facts; profiles: those that most pictures carry, to the byte
packing    few bytes for all of these (specs/format.md, Metadata)
"""
