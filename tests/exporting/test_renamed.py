# SPDX-License-Identifier: Apache-2.0
"""Names carry no meaning: renamed at random, every case exports the same."""

import pytest
import zoo
from judges.exporting import assert_answers, export
from judges.renaming import renamed

# A Saver with keys of its own, or a checkpoint that its reader can't list
# whole, is not what the renaming script can write again.
_OTHER_KEYS = (
  "weights_renamed",
  "weights_moved_scope",
  "weights_average_ignored",
)


# Scopes and ends of names are what a user states.
_SCOPES = (
  "averages_two_decays",
  "averages_two_decays_other",
  "keep_all_tracked",
  "keep_named_scope",
  "keep_named_scopes_unfused",
)
_NAMES = [
  name
  for name in zoo.names()
  if not name.startswith("refuse_") and name not in _OTHER_KEYS + _SCOPES
]


@pytest.mark.part(8, 5)
@pytest.mark.parametrize("name", _NAMES)
def test_export_is_the_same(cases, tmp_path, name):
  case = cases(name)
  assert not case.keep_scopes
  prefix, rename = renamed(case, str(tmp_path))
  assert_answers(case, export(case, prefix, rename), rename)
