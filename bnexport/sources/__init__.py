# SPDX-License-Identifier: Apache-2.0
"""Where models come from: one module a kind of source, each with `load`."""
