# SPDX-License-Identifier: Apache-2.0
"""Calibration: norms get the statistics of data, pass by pass."""

# Of the norms that are asked for: every one, and those that can't be right.
ALL = "all"
BROKEN = "broken"
