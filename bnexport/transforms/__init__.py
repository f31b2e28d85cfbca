# SPDX-License-Identifier: Apache-2.0
"""Transforms: rewritings of a Model, by name and by spec."""
