"""How much data this machine can hold: a dataset is in memory whole while it is read and shaped."""

from __future__ import annotations

import os

# The rest is for copies on the way to the disk, and for everything else that runs.
_SHARE = 0.6


def budget_bytes() -> float:
    """The share of the physical memory that a source may fill; infinite where the system does not say."""
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return float("inf")
    return _SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
