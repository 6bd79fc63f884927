"""What families that hear sound tell a task of how to make their input."""

from __future__ import annotations

from typing import Any

from retrainer.errors import SettingError


def require_audio(family: str, input_spec: dict[str, Any]) -> None:
    """Raises UserError when the task gives no sound."""
    if input_spec["kind"] != "audio":
        raise SettingError(
            f"backbone.family: {family} takes sound; set task.kind: speech_recognition, audio_classification"
            " or speaker_verification, or another family"
        )


def audio_preprocessing(
    input_spec: dict[str, Any],
    sampling_rate: int,
    frame_samples: int,
    spectrum: dict[str, Any] | None = None,
    normalise: bool = False,
) -> dict[str, Any]:
    """`input`: "log_mel" by `spectrum`, or "samples". `frame_samples`: of sound, to one output frame.

    `units` and `words` of a task that writes texts are kept, as they must travel with the model.
    """
    heard: dict[str, Any] = {"input": "samples", "normalise": normalise}
    if spectrum is not None:
        heard = {"input": "log_mel", "spectrum": spectrum}
    learned: dict[str, Any] = {name: input_spec[name] for name in ("units", "words") if name in input_spec}
    common = {"kind": "audio", "sampling_rate": sampling_rate, "max_seconds": input_spec["max_seconds"]}
    return {**common, "frame_samples": frame_samples, **heard, **learned}
