# SPDX-License-Identifier: Apache-2.0
"""The page in Chromium: a small network, a large one, and sick ones."""

import dataclasses
import functools
import os
import sys

import numpy as np
import pytest
from judges import browser as judges
from judges.commands import ROOT
from judges.exporting import export

import bnexport
from bnexport import report
from bnexport.proof import differences
from bnexport.report.evidence import gather
from bnexport.tf1 import tf1

sys.path.insert(0, os.path.join(ROOT, "scripts"))
from benchmarks import networks  # noqa: E402

pytestmark = pytest.mark.newest("Chromium draws it, whatever TensorFlow is")

WIDTHS = (360, 800, 1400)
PAGES = ("small", "sick", "wrong", "ResNet-50")
LARGEST = 1_000_000


@pytest.fixture(scope="module")
def pages(cases, tmp_path_factory):
  """Paths of pages by name, each written once."""
  folder = tmp_path_factory.mktemp("pages")
  written = {}

  def path(name):
    if name not in written:
      exported, proof = _made(name, cases, folder)
      evidence = gather(exported, proof)
      said = report.export_facts(exported, proof, "inference.pb", evidence)
      text = report.writer("x.html")(exported, said, evidence)
      file = folder / f"{name}.html"
      file.write_bytes(text.encode("utf-8"))
      written[name] = str(file)
    return written[name]

  return path


def _made(name, cases, folder):
  """An Export and its Comparison."""
  if name == "ResNet-50":
    exported = bnexport.export(bnexport.load(_resnet(folder), outputs=["y"]))
    x = np.random.RandomState(3).normal(size=(4, 32, 32, 3))
    return exported, exported.prove({"x": x.astype(np.float32)}, proof="quick")
  sick = {"sick": "warn_never_updated"}
  case = cases(sick.get(name, "layers_unfused_phase"))
  exported = export(case)
  proof = exported.prove({case.input: case.x})
  if name == "wrong":
    far = differences.Difference(str(exported.model.outputs[0]), 0.5, 1e-4)
    proof = dataclasses.replace(proof, differences=[far])
  return exported, proof


def _resnet(folder):
  """The .meta of a ResNet-50 that was not trained."""
  with tf1.Graph().as_default() as graph:
    tf1.set_random_seed(1)
    layers = networks.Layers(training=True)
    x = tf1.placeholder(tf1.float32, [None, 32, 32, 3], "x")
    build = functools.partial(networks.resnet50, width=32, is_v2=False)
    tf1.identity(build(layers, x), "y")
    tf1.group(*layers.updates, name="train_op")
    with tf1.Session(graph=graph) as session:
      session.run(tf1.global_variables_initializer())
      return tf1.train.Saver().save(session, str(folder / "net")) + ".meta"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  if judges.executable() is None:
    pytest.skip(f"none of {', '.join(judges.NAMES)} is installed")
  made = judges.Browser(str(tmp_path_factory.mktemp("profile")))
  yield made
  made.close()


def test_page_of_resnet_50_is_small(pages):
  assert 100_000 < os.path.getsize(pages("ResNet-50")) < LARGEST


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_and_has_no_faults(browser, pages, name):
  for width in WIDTHS:
    browser.open(pages(name), width)
    assert browser.run(judges.OVERFLOWING) == [], width
    browser.run(judges.OPEN_ALL)
    assert browser.run(judges.OVERFLOWING) == [], width
    assert browser.faults == []


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_text_can_be_read(browser, pages, name, is_dark):
  browser.open(pages(name), is_dark=is_dark)
  browser.run(judges.OPEN_ALL)
  assert browser.run(judges.FAINT) == {}
  ground = browser.run("getComputedStyle(document.body).backgroundColor")
  assert ground == ("rgb(20, 23, 28)" if is_dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("name", PAGES)
def test_what_takes_the_focus_has_a_name(browser, pages, name):
  browser.open(pages(name))
  assert browser.run(judges.NAMELESS) == []
  levels = browser.run(
    "[...document.querySelectorAll('h1,h2,h3,h4,h5')].map(h => +h.tagName[1])"
  )
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(b <= a + 1 for a, b in zip(levels, levels[1:]))
  for landmark in ("header", "nav", "main"):
    assert browser.run(f"document.querySelectorAll('{landmark}').length") == 1


# Whether the target of a link can be seen, and lies in the window.
SHOWN = """
(() => {
  const e = document.querySelector(location.hash || '#nothing');
  if (!e || !e.checkVisibility()) return false;
  const b = e.getBoundingClientRect();
  return b.height > 0 && b.top < innerHeight && b.bottom > 0;
})()
"""


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("way", ["click", "press"])
@pytest.mark.parametrize("width", [360, 1400])
def test_block_opens_its_neighbourhood(browser, pages, name, way, width):
  browser.open(pages(name), width)
  links = browser.run(
    "[...document.querySelectorAll('.map a')].map(a => a.getAttribute('href'))"
  )
  assert links
  # Norms that deserve a look are open, some.
  browser.run(
    "document.querySelectorAll('details').forEach(d => d.open = false)"
  )
  assert not any(
    browser.run(f"document.querySelector('{link}').checkVisibility()")
    for link in links
  )
  for link in dict.fromkeys([links[0], links[-1]]):
    getattr(browser, way)(f".map a[href='{link}']")
    assert browser.run("location.hash") == link
    assert browser.run(SHOWN)
    assert browser.run(f"document.querySelector('{link} svg') !== null")


def test_norm_in_a_block_opens_its_statistics(browser, pages):
  browser.open(pages("ResNet-50"))
  browser.click(".map a[href='#block-1']")
  browser.click("#block-1 a[href^='#norm-']")
  assert browser.run("location.hash").startswith("#norm-")
  assert browser.run(SHOWN)
  assert browser.run("document.querySelector(location.hash + ' .plot') != null")


@pytest.mark.parametrize("name", PAGES)
def test_all_is_open_on_paper(browser, pages, name):
  browser.open(pages(name), media="print", is_dark=True)
  hidden = browser.run(
    "[...document.querySelectorAll('main *')]"
    ".filter(e => !e.checkVisibility() && !e.closest('.back, defs, title'))"
    ".map(e => e.outerHTML.slice(0, 80))"
  )
  assert hidden == []
  assert not browser.run("document.querySelector('nav').checkVisibility()")
  assert browser.run(judges.FAINT) == {}
  ground = browser.run("getComputedStyle(document.body).backgroundColor")
  assert ground == "rgb(255, 255, 255)"  # ink is dear


# The judges.


FAULTY = """<!DOCTYPE html><html><body style="margin: 0">
<p style="color: #888; background: #fff">faint</p>
<svg><g><rect fill="#333333"/><text style="fill: #444444">dim</text></g></svg>
<p style="width: 3000px; background: #ffffff; color: #000000">wide</p>
<a href="#x"></a><script>console.error("no"); nothing.at.all</script>
</body></html>"""


def test_faults_are_noticed(browser, tmp_path):
  path = tmp_path / "faulty.html"
  path.write_bytes(FAULTY.encode("utf-8"))
  browser.open(str(path), 800)
  assert browser.run(judges.OVERFLOWING)[-1] == "3000 > 800"
  assert {text for _, text in browser.run(judges.FAINT).values()} == {
    "faint",
    "dim",
  }
  assert len(browser.run(judges.NAMELESS)) == 1
  assert len(browser.faults) == 2
