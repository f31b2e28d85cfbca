# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of scripts/bench, all measured side by side in one run.

Times of one run say little: machines differ, and other work runs on them. So
what is compared runs in turns, and what counts are ratios.
"""
