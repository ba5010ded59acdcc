"""Films for the tests, and what is to be seen and heard of them."""

from fractions import Fraction

import av
import numpy as np
from skimage.data import astronaut

SOURCE = astronaut()[100:148, 100:260]
QUIET = {"x265-params": "log-level=none", "crf": "12"}
CODES = {"sound": b"A_FLAC", "video": b"V_MPEG4/ISO/AVC"}  # of codecs, in Matroska


def make_film(
    path,
    *,
    frames=9,
    codec="libx264",
    pixels="yuv420p",
    size=(64, 48),
    colours=(1, 1, 1, 1),
    time_base=Fraction(1, 12_800),
    steps=(1,),
    rotation=0,
    sound="aac",
    options=QUIET,
):
    """A pan over a photograph, with a tone; ``steps`` are durations of frames in 25ths of a second, in turn."""
    with av.open(str(path), "w", container_options={"movflags": "use_metadata_tags"}) as film:
        film.metadata.update({"title": "Fog", "com.example.lens": "wide"})
        video = film.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = *size, pixels
        video.codec_context.time_base = time_base
        set_colours(video.codec_context, colours)
        if rotation:
            video.set_display_rotation(rotation)
        tone = film.add_stream(sound, rate=48_000) if sound else None
        time = 0
        for index in range(frames):
            frame = panned(index, size).reformat(format=pixels, dst_colorspace=colours[0], dst_color_range=colours[1])
            set_colours(frame, colours)
            frame.pts, frame.time_base = time, time_base
            time += int(Fraction(steps[index % len(steps)], 25) / time_base)
            film.mux(video.encode(frame))
        film.mux(video.encode(None))
        if tone:
            play(film, tone)


def make_film_of_the_future(path, kind):
    """A film in Matroska whose ``kind`` of stream has a codec that nobody knows."""
    make_film(path, frames=2, time_base=Fraction(1, 1000), sound="flac")
    code = CODES[kind]
    path.write_bytes(path.read_bytes().replace(code, code[:-3] + b"XYZ"))


def set_colours(thing, colours):
    thing.colorspace, thing.color_range, thing.color_primaries, thing.color_trc = colours


def panned(index, size):
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(SOURCE[: size[1], index : index + size[0]]), format="rgb24")


def play(film, tone):
    wave = (0.3 * np.sin(np.arange(960 * 20) * 0.05) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = 48_000, 0
    film.mux(tone.encode(frame))
    film.mux(tone.encode(None))


def look(path):
    """What is to be kept of each frame, and its pixels."""
    with av.open(str(path)) as film:
        decoded = list(film.decode(film.streams.video[0]))
        facts = [
            (frame.time, frame.rotation, frame.width, frame.height, frame.format.name, *colours(frame))
            for frame in decoded
        ]
        return facts, [frame.to_ndarray(format="rgb24").astype(np.int16) for frame in decoded]


def colours(frame):
    return frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc


def about(film):
    """What the metadata say, but for what says how the file itself was made."""
    of_the_file = {"major_brand", "minor_version", "compatible_brands", "encoder"}
    return {key.lower(): value for key, value in film.metadata.items() if key.lower() not in of_the_file}


def listen(path):
    with av.open(str(path)) as film:
        packets = [packet for packet in film.demux(film.streams.audio) if packet.size]
        return [bytes(packet) for packet in packets], [float(packet.pts * packet.time_base) for packet in packets]
