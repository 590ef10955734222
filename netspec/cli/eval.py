"""Measure a trained run on the data that its spec names."""

from __future__ import annotations

import argparse

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="the folder of a run")


def run(args: argparse.Namespace) -> int:
    return common.GOOD
