"""An ONNX file in 8-bit integers, by onnxruntime's quantization.

Of texts the weights are stored as integers and each batch's values are scaled when they are known (dynamic);
of images the ranges of the values between layers come from training rows (static).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError
from retrainer.export.use_me import Images

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

CALIBRATION_ROWS = 256
_ROWS_AT_ONCE = 16


def write_int8(source: Path, target: Path, rule: dict[str, Any], train: pa.Table) -> None:
    """`rule` is `preprocessing.json`, `train` the rows from which ranges are taken, of images alone."""
    from onnxruntime.quantization import shape_inference

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice that this module follows where it applies
    prepared = source.with_suffix(".prepared.onnx")
    try:
        shape_inference.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if rule["kind"] == "tokens":
            _quantize_texts(prepared, target)
        else:
            _quantize_images(prepared, target, rule, train)
    except Exception as error:  # onnxruntime raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"FORMAT=onnx-int8: this network cannot be had in integers: {reason}") from None
    finally:
        logging.disable(before)
        prepared.unlink(missing_ok=True)


def _quantize_texts(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Of 7 bits: where a processor lacks VNNI, sums of 8-bit products overflow.
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _quantize_images(source: Path, target: Path, rule: dict[str, Any], train: pa.Table) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    batches = _batches(rule, train)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    quantize_static(
        source,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )


def _batches(rule: dict[str, Any], train: pa.Table) -> Iterator[dict[str, np.ndarray]]:
    encode = Images(rule)
    count = min(len(train), CALIBRATION_ROWS)
    rows = [number * len(train) // count for number in range(count)]  # evenly from all
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = [train["image"][row].as_py()["bytes"] for row in rows[start : start + _ROWS_AT_ONCE]]
        yield encode.batch([encode(image) for image in some])
