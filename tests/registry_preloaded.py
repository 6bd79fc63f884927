"""What every process of `registry_workers` has in it from its start."""

from __future__ import annotations

import warnings

from retrainer.services.connection import settle_environment

settle_environment()
warnings.simplefilter("ignore")

import mlflow.pyfunc  # noqa: E402
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402, F401
import pandas  # noqa: E402, F401
import torch  # noqa: E402, F401

import retrainer.formats.model  # noqa: E402
import retrainer.registry.promote  # noqa: E402
import retrainer.registry.register  # noqa: E402, F401
from tests import registry_workers  # noqa: E402, F401
