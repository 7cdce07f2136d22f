"""
The tests; importing them chooses how hard Hypothesis looks, under pytest and under trial alike.

No example has a deadline: a machine that is busy is no defect of ours.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tunnelstack.settings.dialects import dialectPackages

_slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("usual", deadline=None, max_examples=50, database=None, suppress_health_check=_slow)
settings.register_profile("gate", settings.get_profile("usual"), derandomize=True, print_blob=True)
settings.register_profile("soak", settings.get_profile("usual"), max_examples=2000)
_soak, _gate = os.environ.get("TUNNELSTACK_SOAK") == "1", os.environ.get("CI") == "true"
settings.load_profile("soak" if _soak else "gate" if _gate else "usual")

# Twisted logs a plugin that cannot be loaded, and trial gives an error that is logged to the test that runs.  So plugins are
# looked for before any test does: one that another process is writing at the time failed the test that happened to be first.
dialectPackages()
