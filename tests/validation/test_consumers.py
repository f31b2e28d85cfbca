# SPDX-License-Identifier: Apache-2.0
"""Consumers: asked in processes of their own, and judged by TensorFlow."""

import importlib.util
import json
import re

import pytest
from judges.commands import assert_refused, on_one_line
from judges.commands import run as run_command

from bnexport import text
from bnexport.validation import consumers
from bnexport.validation.consumers import verdicts

NET = """
x = Placeholder() {shape=[?,4,4,2]}
kernel = Const() {value=<float [1,1,2,3] 0.5 -1 2 1 0.25 -0.5>}
gamma = Const() {value=<float [3] 1.5 0.5 2>}
beta = Const() {value=<float [3] 0.1 0.2 0.3>}
mean = Const() {value=<float [3] 0.5 -0.25 0.125>}
variance = Const() {value=<float [3] 1.25 0.75 2>}
c = Conv2D(x, kernel) {strides=(1, 1, 1, 1), padding="SAME"}
norm = FusedBatchNorm(c, gamma, beta, mean, variance) {is_training=false}
axes = Const() {value=<int32 [2] 1 2>}
m = Mean(norm, axes)
logits = Identity(m)
"""
# Stands for OpenCV: the process that it is asked in needs no TensorFlow.
CV2 = """
import os, time
import numpy as np
__version__ = "0.1"
class Net:
  def setInput(self, value, name):
    assert (name, value.shape) == ("x", (4, 2, 4, 4))
  def getLayerNames(self):
    return ("c", "m")
  def forward(self, name):
    assert name == "m"
    return np.zeros([4, 3], np.float32)
class dnn:
  @staticmethod
  def readNetFromTensorflow(path):
    %s
    return Net()
"""


@pytest.fixture
def net(tmp_path):
  path = tmp_path / "net.pb"
  path.write_bytes(text.loads(NET).SerializeToString())
  return str(path)


@pytest.fixture
def fake(tmp_path, monkeypatch):
  """Makes a module cv2 that does something when it reads a graph."""

  def make(does):
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "cv2.py").write_text(CV2 % does)
    monkeypatch.syspath_prepend(str(folder))

  return make


def run(capsys, net, *arguments, **more):
  return run_command(
    capsys,
    "--graph=" + net,
    "--output_node=" + more.get("outputs", "logits"),
    *arguments,
    command="validate",
  )


def test_what_is_not_installed_is_said_before_any_work(
  capsys, net, monkeypatch
):
  found = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name == "onnxruntime" else found(name),
  )
  monkeypatch.setitem(consumers.CONSUMERS, "onnx", ("onnxruntime",))
  result = run(capsys, net, "--consumers=tflite,onnx")
  assert_refused(result, "'onnx'", "pip install 'bnexport[onnx]'")
  assert len(result.err.splitlines()) == 1


def test_unknown_consumer(capsys, net):
  assert_refused(
    run(capsys, net, "--consumers=opencl"), "'opencl'", "did you mean 'opencv'"
  )


def test_wrong_answers_are_found(capsys, net, fake):
  fake("pass")
  result = run(capsys, net, "--consumers=opencv")
  assert result.status == 2
  assert "OpenCV 0.1 loads it and answers DIFFERENTLY" in result.out
  assert "logits: largest difference" in result.out
  assert "<- differs" in result.out


def test_json(capsys, net, fake):
  fake("pass")
  result = run(capsys, net, "--consumers=opencv", "--format=json")
  said = json.loads(result.out)
  assert result.status == 2 and said["holds"] is False
  assert said["proof"]["verdict"] == "NOT PROVEN"  # no reference
  [one] = said["consumers"]
  assert one["name"] == "opencv" and one["fault"] is None
  assert one["outputs"][0]["largest_difference"] > 0.1


def test_crash_is_a_verdict(capsys, net, fake):
  fake("os.abort()")
  result = run(capsys, net, "--consumers=opencv")
  assert result.status == 2, result
  assert "opencv: FAILS: it ends its process with SIGABRT" in result.out


def test_failure_is_one_line(capsys, net, fake):
  fake("raise ValueError('no such\\nop: ' + 'x' * 999)")
  result = run(capsys, net, "--consumers=opencv")
  assert result.status == 2
  said = on_one_line(result.out)
  assert "OpenCV 0.1: FAILS: it does not load: no such op: xx" in said
  assert "xxx...xxx" in said
  assert max(map(len, result.out.splitlines()[2:])) <= 100


def test_time_is_limited(capsys, net, fake, monkeypatch):
  monkeypatch.setattr(verdicts, "_SECONDS", 0.5)
  fake("time.sleep(60)")
  result = run(capsys, net, "--consumers=opencv")
  assert result.status == 2
  assert "takes longer than" in result.out


@pytest.mark.parametrize("name", list(consumers.CONSUMERS))
def test_real_one_answers_as_tensorflow(capsys, net, name):
  for module in consumers.CONSUMERS[name]:
    pytest.importorskip(module)
  result = run(capsys, net, "--consumers=" + name, outputs="logits,norm")
  assert result.status == 0, result
  assert len(re.findall("norm: largest difference", result.out)) == 1
  assert "loads it and answers as TensorFlow" in result.out
