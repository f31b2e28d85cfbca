# SPDX-License-Identifier: Apache-2.0
"""The nouns that the flags stand for: a Request, Options, a Delivery."""

from __future__ import annotations

import json
from typing import (
  Any,
  Callable,
  Dict,
  List,
  NamedTuple,
  Optional,
  Sequence,
  Tuple,
)

from absl import flags

from bnexport import cli
from bnexport.cli.process import progress
from bnexport.errors import Offer, SourceError


def settings() -> Dict[str, str]:
  """The --set flag as a dict.

  Raises:
    SourceError: an item is no name=value.
  """
  found = {}
  for item in cli.SET.value:
    name, equals, value = item.partition("=")
    if not equals or not name:
      raise SourceError(
        f"read --set item '{item}'",
        "its form is another",
        "write NAME=VALUE",
      )
    found[_without_port(name)] = value
  return found


def scope_map() -> Tuple[Tuple[str, str], ...]:
  """The --scope_map flag as pairs.

  Raises:
    SourceError: an item is no old=new.
  """
  found = []
  for item in cli.SCOPE_MAP.value:
    old, equals, new = item.partition("=")
    if not equals:
      raise SourceError(
        f"read --scope_map item '{item}'",
        "its form is another",
        "write OLD/=NEW/",
      )
    found.append((old, new))
  return tuple(found)


def model_kwargs() -> Dict[str, Any]:
  """The --model_kwargs flag as a dict.

  Raises:
    SourceError: it is no JSON object.
  """
  try:
    kwargs = json.loads(cli.MODEL_KWARGS.value)
  except (ValueError, RecursionError) as error:
    raise SourceError(
      "read --model_kwargs",
      error,
      "write a JSON object, like '{\"depth\": 50}'",
    ) from error
  if not isinstance(kwargs, dict):
    raise SourceError(
      "use --model_kwargs",
      "it is no JSON object",
      "write one, like '{\"depth\": 50}'",
    )
  return kwargs


def feeds() -> Optional[Dict[str, Any]]:
  """The arrays of --feeds, or None.

  Raises:
    SourceError: the file is no npz.
  """
  if cli.FEEDS.value is None:
    return None
  from bnexport.sources import arrays

  return arrays.read(cli.FEEDS.value, "feeds")


def proof() -> str:
  """The effort of the proof: --proof, or --validate as another word for it.

  Raises:
    SourceError: the two say different things.
  """
  if not flags.FLAGS["validate"].present:
    return cli.PROOF.value
  said = "full" if cli.VALIDATE.value else "none"
  if flags.FLAGS["proof"].present and cli.PROOF.value != said:
    raise SourceError(
      f"take --proof={cli.PROOF.value}",
      f"--validate={str(cli.VALIDATE.value).lower()} means --proof={said}",
      "pass one",
    )
  return said


def _without_port(name: str) -> str:
  return name[:-2] if name.endswith(":0") else name


def named_outputs() -> List[str]:
  """The --output_node flag, which may name none."""
  return [name for name in cli.OUTPUT_NODE.value if name]


class Likely(NamedTuple):
  """What may be meant where no output is named.

  Attributes:
    only: the one that can be meant, or None.
    names: all that are likely, best first.
  """

  only: Optional[str]
  names: Sequence[str]


def outputs(likely: Callable[[], Likely]) -> List[str]:
  """The --output_node flag; where it names none, the one that can be meant.

  Args:
    likely: finds what may be meant.

  Raises:
    SourceError: several may be, or nothing is found.
  """
  names = named_outputs()
  if names:
    return names
  found = likely()
  if found.only is not None:
    progress(f"takes output '{found.only}', the only one that can be meant")
    return [found.only]
  step = ""
  if not found.names:
    step = (
      "pass --output_node=NAME; python -m bnexport.inspect lists the likely "
      "ones"
    )
  offers = [Offer({"output_node": name}) for name in found.names]
  raise SourceError("export", "no output is named", step, offers)


def likely(graph) -> Likely:
  """The Likely of a Graph."""
  from bnexport.analysis import answer, ends
  from bnexport.analysis.flow import Flow

  flow = Flow(graph)
  return Likely(answer.only_output(flow), ends.outputs(flow))


def inputs() -> List[str]:
  """The --input_node flag."""
  return [name for name in cli.INPUT_NODE.value if name]


def destination(source, extension, prefix):
  """The path of the graph to write; no file that exists or is read.

  Args:
    source: what the graph is named for where the user gives no name.
    extension: is put behind that, with .pb or .pbtxt.
    prefix: of the checkpoint, or None.

  Raises:
    SourceError: a graph or a report can't be written there.
  """
  from bnexport.exporting import writing

  # Each only where it is needed: a name that is taken is told at once.
  if cli.REPORT.value is not None:
    from bnexport import report

    report.writer(cli.REPORT.value)
    writing.refuse_existing(cli.REPORT.value, cli.OVERWRITE.value)
  if cli.SAVED_MODEL_OUT.value:
    from bnexport.exporting import saved_model

    saved_model.refuse_directory(cli.SAVED_MODEL_OUT.value, cli.OVERWRITE.value)
    return cli.SAVED_MODEL_OUT.value
  kind = ".pbtxt" if cli.AS_TEXT.value else ".pb"
  path = cli.OUTPUT_GRAPH.value or source.rstrip("/") + extension + kind
  writing.refuse_existing(path, cli.OVERWRITE.value)
  read = [
    flag.value for flag in (*cli.SOURCES[1:], cli.FEEDS, cli.CALIBRATION_DATA)
  ]
  for written in filter(None, (path, cli.REPORT.value)):
    writing.refuse_source(written, prefix, *read)
  if cli.REPORT.value is not None:
    writing.refuse_source(cli.REPORT.value, None, path)
  return path


def options():
  """The flags that say what a user may ask of an export."""
  from bnexport.exporting.export import Options

  population = None
  if cli.CALIBRATION_DATA.value is not None:
    from bnexport.calibration import data

    population = data.read_data(
      cli.CALIBRATION_DATA.value, function=cli.CALIBRATION_INPUT.value or ""
    )
  return Options(
    settings=settings(),
    keep_batch_statistics=tuple(cli.KEEP_BATCH_STATISTICS.value),
    keep_random=tuple(cli.KEEP_RANDOM.value),
    averages=tuple(cli.AVERAGES.value),
    moving_averages=cli.MOVING_AVERAGES.value,
    average_name=cli.AVERAGE_NAME.value or "",
    data_format=cli.DATA_FORMAT.value,
    denylist=tuple(cli.DENYLIST.value),
    allowlist=tuple(cli.ALLOWLIST.value),
    missing=cli.MISSING.value,
    initializers=tuple(cli.INITIALIZER_NODES.value),
    engine=cli.ENGINE.value,
    keep_control_flow=cli.KEEP_CONTROL_FLOW.value,
    fold_batch_norms=cli.FOLD_BATCH_NORMS.value,
    transforms=cli.TRANSFORMS.value or "",
    keep_variables=bool(cli.SAVED_MODEL_OUT.value),
    target_tf=cli.TARGET_TF.value,
    calibration_data=population,
    recalibrate=tuple(cli.RECALIBRATE.value),
    allow_unsafe_ops=cli.ALLOW_UNSAFE_OPS.value,
  )


def refuse_two_sources():
  """Returns the flags that name a source, one or none.

  Raises:
    SourceError: there are two.
  """
  named = [flag for flag in cli.SOURCES if flag.value]
  if len(named) > 1:
    raise SourceError(
      "take the graph from two sources",
      f"--{named[0].name} and --{named[1].name} are given",
      "pass one",
    )
  return named


def request(checkpoint=None, outputs=(), **more):
  """The Request that the flags mean; without a source, the `.meta` beside.

  Args:
    checkpoint: prefix of the checkpoint, or None.
    outputs: names of the tensors to keep.
    **more: other attributes of Request.

  Raises:
    SourceError: two sources are named.
  """
  from bnexport.model.request import Request

  beside = more.get("training")  # --meta_graph, beside a graph
  named = [flag for flag in cli.SOURCES if flag.value and flag.value != beside]
  kind, source = "meta_graph", checkpoint and checkpoint + ".meta"
  if named:
    kind, source = named[0].name, named[0].value
  return Request(
    kind,
    source,
    checkpoint,
    tuple(outputs),
    tuple(inputs()),
    tuple(cli.TAGS.value),
    cli.SIGNATURE.value,
    placeholders=tuple(cli.INPUT.value),
    kwargs=model_kwargs(),
    moving_averages=cli.MOVING_AVERAGES.value,
    average_name=cli.AVERAGE_NAME.value,
    scope_map=scope_map(),
    **more,
  )


def delivery(path, is_said=True, **more):
  """The Delivery that the flags mean; the attributes stand in `more` too."""
  from bnexport.exporting.delivery import Delivery

  return Delivery(
    path,
    as_text=cli.AS_TEXT.value,
    overwrite=cli.OVERWRITE.value,
    proof=proof(),
    proof_timeout=cli.PROOF_TIMEOUT.value,
    **({"progress": progress} if is_said else {}),
    **more,
  )
