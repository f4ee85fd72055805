"""Which container an upload is, by its first bytes alone: FFmpeg is told and never has to guess."""

from __future__ import annotations

from typing import BinaryIO

from api.errors import InvalidAudio, UnsupportedAudioFormat

SUPPORTED = "WAV, MP3, FLAC, OGG (Opus, Vorbis), M4A/MP4 (AAC, ALAC), AAC and WebM/Matroska"
"""What may be uploaded, in words for messages."""

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")

_REFUSED_SIGNATURES = (
    (b"#EXTM3U", "HLS playlist"),
    (b"ffconcat", "concat playlist"),
    (b"v=0", "SDP session"),
    (b"<?xml", "XML document"),
    (b"<MPD", "DASH playlist"),
    (b"[playlist]", "PLS playlist"),
    (b"FORM", "AIFF"),
    (b"caff", "CAF"),
    (b".snd", "AU"),
    (b"#!AMR", "AMR"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF/WMA"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio"),
    (b"FLV\x01", "FLV"),
    (b"MThd", "MIDI"),
    (b"\x00\x00\x01\xba", "MPEG program stream"),
)
"""First bytes of media that is told apart from "not audio" (415 rather than 400)."""


def sniff(file: BinaryIO) -> str:
    """Name of the container that the first bytes show: one of wav, mp3, flac, ogg, mp4, webm, aac.

    The file is left wherever that took it.

    Raises:
        InvalidAudio: no bytes, or bytes that are no audio known to us.
        UnsupportedAudioFormat: a known kind of media that isn't decoded here.
    """
    head = file.read(64)
    if not head:
        raise InvalidAudio("The upload is empty", file="No bytes were received")
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        if head[8:12] == b"WAVE":
            return "wav"
        raise UnsupportedAudioFormat("Unsupported audio format", format=f"Only {SUPPORTED}")
    if head.startswith(b"OggS"):
        return "ogg"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm"
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    elementary = _sniff_elementary(file, head)
    if elementary:
        return elementary
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, name in _REFUSED_SIGNATURES:
        if text.startswith(signature):
            raise UnsupportedAudioFormat(f"{name} isn't accepted", format=f"Only {SUPPORTED}")
    raise InvalidAudio("Invalid audio format", format=f"Only {SUPPORTED}")


def _sniff_elementary(file: BinaryIO, head: bytes) -> str | None:
    """FLAC, ADTS AAC or MPEG audio, behind an ID3v2 tag or not; None for anything else."""
    start = _id3_size(head)
    file.seek(start)
    head = file.read(4)
    if head == b"fLaC":
        return "flac"
    if len(head) == 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        layer = head[1] >> 1 & 3
        if layer == 0:
            return "aac" if head[1] & 0xF0 == 0xF0 else None
        version_ok = head[1] >> 3 & 3 != 1
        rates_ok = head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3
        return "mp3" if version_ok and rates_ok else None
    return "mp3" if start else None


def _id3_size(head: bytes) -> int:
    """Bytes of a leading ID3v2 tag, header included (id3.org, ID3v2.4.0 structure, section 3.1)."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return size + 10
