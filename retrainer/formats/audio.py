"""Sound files → samples: WAV of any width, FLAC, MP3, Ogg and the like, by libsndfile (package soundfile).

Nothing of a file's header is believed: what it claims is capped before memory is taken for it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from retrainer.errors import DataError, SettingError

if TYPE_CHECKING:
    import numpy as np

# Formats with plain decoders, in libsndfile's names.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "MP3", "OGG", "AIFF", "AU", "NIST")
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aif", ".aiff", ".au", ".w64", ".sph")
MAX_SECONDS = 3600.0
MAX_CHANNELS = 8
RATES = (1_000, 384_000)  # samples a second
# Writers to a pipe cannot know the length of what comes, and put these in its place.
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFF000)


def decode_audio(
    data: bytes | None, name: str, max_seconds: float = MAX_SECONDS, first_seconds: float = MAX_SECONDS
) -> tuple[np.ndarray, int]:
    """One file → its channels' mean, float32 [samples] in -1 to 1, and its samples a second.

    Of a file that lasts longer than `first_seconds` only its beginning is decoded.

    Raises UserError that begins with `name` for a file that cannot be decoded, is cut short, silent of
    samples, longer than `max_seconds`, or holds values that are no numbers.
    """
    import numpy as np

    if not data:
        raise DataError(f"{name}: the audio is empty; give its file again, or remove the row")
    samples, rate = _read(data, name, max_seconds, first_seconds)
    if not len(samples):
        raise DataError(f"{name}: the audio has no samples; record it again, or remove the row")
    mono = samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if not np.isfinite(mono).all():
        raise DataError(f"{name}: the audio holds values that are no numbers; write it again as 16-bit PCM")
    return mono, rate


def length_of(data: bytes | None, name: str) -> tuple[float, int]:
    """What the header says: seconds, and samples a second. Raises UserError for a file that has none."""
    if not data:
        raise DataError(f"{name}: the audio is empty; give its file again, or remove the row")
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, name, MAX_SECONDS)
            return file.frames / file.samplerate, int(file.samplerate)
    except soundfile.SoundFileError as error:
        raise _undecodable(name, error) from None


def fault_of(data: bytes) -> str | None:
    """Why a sound file is of no use, in words; None where its header, and of WAV its length, are right."""
    try:
        seconds, _ = length_of(data, "sound")
    except DataError:
        return "broken audio" if data else "no audio"
    if not seconds:
        return "audio without samples"
    return None if _missing_of_wav(data) is None else "audio cut short"


def is_silent(data: bytes | memoryview) -> bool:
    """Whether a WAV file holds nothing but one and the same value; of another format it is not looked at."""
    found = _samples_of_wav(data)
    if found is None:
        return False
    start, size = found
    samples = data[start : start + size]
    if not len(samples) or samples[0] != samples[-1]:
        return False
    return not bytes(samples).strip(bytes(samples[:1]))


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """float [samples] in -1 to 1 → a WAV file of 16 bits a sample."""
    soundfile = _soundfile()
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: the package without its library
        raise SettingError("audio needs the package soundfile: pip install 'retrainer[audio]'") from None
    return soundfile


def _read(data: bytes, name: str, max_seconds: float, first_seconds: float) -> tuple[np.ndarray, int]:
    """float32 [samples, channels] and the rate."""
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, name, max_seconds)
            _check_wav_is_whole(data, name)
            most = int(min(max_seconds, first_seconds) * file.samplerate) + 1
            samples = file.read(min(most, file.frames), dtype="float32", always_2d=True)
            # An MP3's length may be an estimate, a FLAC's is exact.
            if file.format == "FLAC" and len(samples) < min(most, file.frames):
                raise DataError(_cut_short(name, file.frames, len(samples), "samples"))
            return samples, int(file.samplerate)
    except soundfile.SoundFileError as error:
        raise _undecodable(name, error) from None


def _undecodable(name: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).rpartition(">: ")[2][:160]
    return DataError(f"{name}: the audio cannot be decoded: {reason}")


def _check_header(file: Any, name: str, max_seconds: float) -> None:
    low, high = RATES
    if file.format not in FORMATS:
        raise DataError(f"{name}: audio of format {file.format} is not read; save it as WAV or FLAC")
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise DataError(
            f"{name}: the audio has {file.channels} channels, the most are {MAX_CHANNELS}; mix it down"
        )
    if not low <= file.samplerate <= high:
        raise DataError(
            f"{name}: the audio has {file.samplerate:,} samples a second, outside {low:,} to {high:,};"
            " write its header again, or resample it"
        )
    if file.frames > max_seconds * file.samplerate:
        raise DataError(
            f"{name}: the audio lasts {file.frames / file.samplerate:,.1f} s, the most are {max_seconds:g} s;"
            " cut it into shorter ones, or raise task.max_seconds"
        )


def _check_wav_is_whole(data: bytes, name: str) -> None:
    """libsndfile reads a WAV file that lost its end as if it ended there; its words would be missing."""
    missing = _missing_of_wav(data)
    if missing is not None:
        raise DataError(_cut_short(name, *missing, "bytes"))


def _missing_of_wav(data: bytes) -> tuple[int, int] | None:
    """Of a WAV file that lost its end the bytes of samples that its header promises, and those there are."""
    found = _samples_of_wav(data)
    if found is None:
        return None
    start, size = found
    there = len(data) - start
    return (size, there) if size > there and size not in _UNKNOWN_SIZES else None


def _samples_of_wav(data: bytes | memoryview) -> tuple[int, int] | None:
    """Where the samples of a WAV file begin, and how many bytes of them its header promises."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return None


def _cut_short(name: str, promised: int, there: int, what: str) -> str:
    return (
        f"{name}: the audio is cut short: its header promises {promised:,} {what}, {there:,} are there;"
        " copy the file again, or remove the row"
    )
