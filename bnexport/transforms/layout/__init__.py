# SPDX-License-Identifier: Apache-2.0
"""Channels first to channels last."""
