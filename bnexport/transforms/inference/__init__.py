# SPDX-License-Identifier: Apache-2.0
"""Turning a training graph into an inference graph."""
