"""The host's end of the frame protocol, and what it makes of a box that lies."""

import os
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnull.sandbox.errors import BoxDied
from devnull.sandbox.frames import MAX_FRAME_BYTES, Channel, DockerDemultiplexer, FrameReader, encode_frame

FRAMES = st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.binary(max_size=300)), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(at)]


@given(FRAMES, st.lists(st.integers(0, 5000), max_size=20))
def test_frames_survive_any_cutting(frames: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    reader = FrameReader()
    stream = b"".join(encode_frame(kind, payload) for kind, payload in frames)
    assert [got for piece in pieces(stream, cuts) for got in reader.feed(piece)] == frames


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=200))), st.lists(st.integers(0, 5000), max_size=20)
)
def test_dockers_heads_survive_any_cutting(parts: list[tuple[int, bytes]], cuts: list[int]) -> None:
    demultiplexer = DockerDemultiplexer()
    stream = b"".join(struct.pack(">BxxxI", which, len(data)) + data for which, data in parts)
    out = b"".join(demultiplexer.feed(piece) for piece in pieces(stream, cuts))
    assert out == b"".join(data for which, data in parts if which == 1)
    assert bytes(demultiplexer.stderr) == b"".join(data for which, data in parts if which == 2)[:4096]


@settings(max_examples=300)
@given(st.binary(max_size=2000))
def test_any_bytes_are_frames_a_wait_or_a_refusal(data: bytes) -> None:
    reader = FrameReader()
    try:
        got = list(reader.feed(data))
    except BoxDied:
        return
    assert sum(5 + len(payload) for _, payload in got) <= len(data)


def test_a_length_no_supervisor_sends_is_refused() -> None:
    with pytest.raises(BoxDied, match="protocol"):
        list(FrameReader().feed(b"O" + struct.pack("<I", MAX_FRAME_BYTES + 1)))
    with pytest.raises(ValueError, match="holds"):
        encode_frame(b"P", bytes(MAX_FRAME_BYTES + 1))


def test_channel_waits_no_longer_than_told_and_sees_the_end() -> None:
    reader, writer = os.pipe()
    channel = Channel(reader, writer)
    assert channel.receive(0.01) is None
    channel.send(encode_frame(b"A", b"1") + encode_frame(b"B", b"2")[:3])
    assert channel.receive(1) == (b"A", b"1")
    assert channel.receive(0.01) is None
    channel.send(encode_frame(b"B", b"2")[3:])
    assert channel.receive(1) == (b"B", b"2")
    os.close(writer)
    with pytest.raises(EOFError):
        channel.receive(1)
    os.close(reader)
