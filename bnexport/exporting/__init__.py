# SPDX-License-Identifier: Apache-2.0
"""From a model to a written and proven inference graph."""
