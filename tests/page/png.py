"""Just enough of PNG to tell a picture from an empty sheet."""

import struct
import zlib


def colours(data, rows=400):
    """Size of an 8-bit RGB(A) picture, and how often each colour occurs in a sample of its first rows."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG")
    at, body, width, height, channels = 8, b"", 0, 0, 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", chunk[:10])
            channels = {2: 3, 6: 4}[colour]
            if depth != 8:
                raise ValueError(f"{depth} bits a channel")
        elif kind == b"IDAT":
            body += chunk
        at += 12 + length
    counts = {}
    previous = bytearray(width * channels)
    raw, stride = zlib.decompress(body), width * channels + 1
    # Every eighth row is plenty to judge by, but a row's filter may refer to the one above it.
    for y in range(min(height, rows)):
        row = _unfilter(raw[y * stride], bytearray(raw[y * stride + 1 : (y + 1) * stride]), previous, channels)
        if y % 8 == 0:
            for x in range(0, len(row), channels * 4):
                pixel = bytes(row[x : x + 3])
                counts[pixel] = counts.get(pixel, 0) + 1
        previous = row
    return width, height, counts


def _unfilter(kind, row, above, channels):
    if kind == 0:
        return row
    for i in range(len(row)):
        left = row[i - channels] if i >= channels else 0
        up = above[i]
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            corner = above[i - channels] if i >= channels else 0
            distances = (abs(up - corner), abs(left - corner), abs(left + up - 2 * corner))
            guess = (left, up, corner)[distances.index(min(distances))]
        row[i] = (row[i] + guess) & 0xFF
    return row
