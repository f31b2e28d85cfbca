# SPDX-License-Identifier: Apache-2.0
"""Packaging of bnexport."""

import os
import re

import setuptools

_HERE = os.path.dirname(os.path.abspath(__file__))


def _read(*parts):
  with open(os.path.join(_HERE, *parts), encoding="utf-8") as f:
    return f.read()


setuptools.setup(
  name="bnexport",
  # Read as text: importing the package is for its users.
  version=re.search(
    r'^__version__ = "(.+)"', _read("bnexport", "version.py"), re.M
  ).group(1),
  description="Freezes TF1 models with batch norm into proven inference graphs",
  long_description=_read("README.md"),
  long_description_content_type="text/markdown",
  author="The bnexport developers",
  license="Apache-2.0",
  license_files=["LICENSE"],
  keywords=[
    "batch normalization",
    "checkpoint",
    "frozen graph",
    "graph transform",
    "inference",
    "tensorflow",
    "tf1",
  ],
  classifiers=[
    "Development Status :: 4 - Beta",
    "Environment :: Console",
    "Intended Audience :: Developers",
    "Intended Audience :: Science/Research",
    "Operating System :: OS Independent",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3 :: Only",
    *(f"Programming Language :: Python :: 3.{minor}" for minor in range(7, 14)),
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Topic :: Software Development :: Libraries :: Python Modules",
    "Typing :: Typed",
  ],
  packages=setuptools.find_packages(include=["bnexport", "bnexport.*"]),
  package_data={
    "": ["README.md"],
    "bnexport": ["TROUBLESHOOTING.md", "py.typed"],
    "bnexport.graph": ["op_history.json"],
    "bnexport.report": ["page.css.j2", "page.html.j2", "page.png"],
    "bnexport.tf1": ["op_definitions.json"],
  },
  zip_safe=False,  # type checkers look for files
  entry_points={"console_scripts": ["bnexport = bnexport.__main__:main"]},
  python_requires=">=3.7",
  install_requires=["tensorflow>=1.15", "numpy", "absl-py"],
  extras_require={
    # tf_keras makes tf.compat.v1.layers work in model code on TF 2.16 and up.
    "keras": ["tf_keras"],
    # Checksums of checkpoints, which are read without TensorFlow then.
    "fast": ["google-crc32c>=1.5"],
    # A bar with the time left, for many checkpoints and for long proofs.
    "progress": ["tqdm>=4.60"],
    # Colours of reports; 13.8 is the last for Python 3.7.
    "terminal": ["rich>=12"],
    # What --report=FILE.html takes, in versions for Python 3.7 as well.
    "report": ["jinja2>=3.1", "grandalf>=0.8"],
    # What validate --consumers asks for answers.
    "onnx": ["tf2onnx>=1.16", "onnxruntime"],
    "opencv": ["opencv-python-headless>=5"],
    "openvino": ["openvino>=2024"],
    # What freeze --runner takes, and exporting.beam.
    "beam": ["apache-beam>=2.48"],
    "test": ["pytest"],
    # What scripts/lint runs. A ruff of another year formats otherwise.
    "lint": ["ruff>=0.15,<1", "mypy>=1.15,<3"],
  },
)
