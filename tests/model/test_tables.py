# SPDX-License-Identifier: Apache-2.0
"""Which initializers of lookup tables are kept, and which tables can't be."""

import pytest
from judges.transforming import model_of

from bnexport.errors import SourceError
from bnexport.model.tables import keep_initializers, refuse_mutable

GRAPH = """
x = Placeholder() {dtype=string}   default = Const() {value=<int64 0>}
table = HashTableV2()   other = HashTableV2()   waited = HashTableV2()
keys = Const()   values = Identity(default)
y = LookupTableFindV2(table, x, default, ^size)
size = LookupTableSizeV2(waited)
fill = LookupTableImportV2(table, keys, values)
fill_waited = LookupTableImportV2(waited, keys, values)
fill_other = LookupTableImportV2(other, keys, default)
"""


def kept(*names):
  model = model_of(GRAPH)
  keep_initializers(model, names)
  return model.initializers, list(map(str, model.warnings))


def test_what_fills_the_tables_of_the_outputs_is_kept():
  """It is also where an output only waits for the table."""
  names, (said,) = kept()
  assert names == ("fill", "fill_waited")
  assert said.startswith("run 'fill', 'fill_waited' once after importing")


def test_what_a_user_names_is_kept_once():
  assert kept("fill_other", "fill")[0] == ("fill_other", "fill", "fill_waited")
  with pytest.raises(SourceError, match="no such node; .*fill_other"):
    kept("fill_othr")


def test_a_graph_without_tables_has_no_initializers():
  model = model_of("y = Placeholder()")
  keep_initializers(model, ())
  assert model.initializers == () and not model.warnings


def test_mutable_tables_are_refused():
  model = model_of("y = MutableHashTableV2()   t = HashTableV2()")
  refuse_mutable(model.graph, ["t"], "freeze", "feed it")
  with pytest.raises(SourceError, match="freeze lookup table 'y': .*; feed it"):
    refuse_mutable(model.graph, ["t", "y"], "freeze", "feed it")
