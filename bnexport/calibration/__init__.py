# SPDX-License-Identifier: Apache-2.0
"""Calibration: norms get the statistics of data, pass by pass."""
