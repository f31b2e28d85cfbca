# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files through all commands; see fuzzing.command."""
