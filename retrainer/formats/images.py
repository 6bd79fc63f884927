"""Formats of images that a dataset may hold, by Pillow's names."""

# Only those whose decoders are plain: an EPS file, say, would start another program.
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
