# SPDX-License-Identifier: Apache-2.0
"""What whole numbers hide: the floats behind them are compared too."""

import numpy as np
import pytest
from test_comparison import Answers

from bnexport.graph import TensorRef
from bnexport.proof.comparison import DIFFERS, NOT_PROVEN, PROVEN, prove
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import tf1


def graph_of(top, slope=1.0):
  """Scores [rows, 3] of which the first is largest by far, and `top` of them."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 3], name="x")
    scores = tf1.add(slope * x, [100.0, 0.0, 0.0], name="scores")
    tf1.identity(top(scores), name="y")
  return graph.as_graph_def()


def argmax(scores):
  return tf1.argmax(scores, 1, name="top")


def one_hot(scores):
  return tf1.one_hot(tf1.argmax(scores, 1, name="top"), 3)


def is_large(scores):
  return tf1.greater(tf1.nn.sigmoid(scores), 0.999999, name="top")


def rounded(scores):
  return tf1.round(scores / 1000, name="top")


def verdict(graph_def, reference):
  return prove(graph_def, [TensorRef("y")], reference).verdict


@pytest.mark.parametrize("top", [argmax, one_hot, is_large, rounded])
def test_a_fault_behind_whole_numbers_is_found(top):
  reference = ImportedGraph(graph_of(top), ["y"])
  assert verdict(graph_of(top, 1.1), reference) == DIFFERS
  assert verdict(graph_of(top), reference) in (PROVEN, NOT_PROVEN)


def test_a_right_argmax_is_proven():
  reference = ImportedGraph(graph_of(argmax), ["y"])
  proof = prove(graph_of(argmax), [TensorRef("y")], reference)
  assert proof.verdict == PROVEN
  assert [one.output for one in proof.differences] == ["y", "scores"]


def test_what_can_not_be_compared_is_not_proven():
  reference = Answers(lambda x: np.zeros(len(x), np.int64))
  proof = prove(graph_of(argmax), [TensorRef("y")], reference)
  assert proof.verdict == NOT_PROVEN
  assert "whole numbers" in proof.missing
  assert any("--output_node" in note for note in proof.notes)


def test_whole_numbers_of_whole_numbers_hide_nothing():
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.int32, [None, 3], name="x")
    tf1.argmax(x + tf1.shape(x)[0], 1, name="y")
  numbers = Answers(lambda x: np.argmax(x, 1))
  assert verdict(graph.as_graph_def(), numbers) == PROVEN


@pytest.mark.parametrize("top", [tf1.nn.softmax, tf1.nn.sigmoid])
def test_a_fault_behind_probabilities_that_are_sure_is_found(top):
  def sure(scores):
    return top(1000 * scores)

  reference = ImportedGraph(graph_of(sure), ["y"])
  assert verdict(graph_of(sure, 1.1), reference) == DIFFERS
