"""Shared by the unit tests: the tiny checkpoint, its reference, a real photo."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from builder.arr_coc.reference import Reference
from builder.arr_coc.source import ArrCoc, load_checkpoint
from builder.spec.load import load_spec
from builder.spec.models import Spec

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "specs" / "arr_coc.yaml"

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def spec() -> Spec:
    return load_spec(SPEC)


@pytest.fixture(scope="session")
def source(spec: Spec) -> ArrCoc:
    return load_checkpoint(spec.checkpoint, SPEC.parent)


@pytest.fixture(scope="session")
def reference(spec: Spec, source: ArrCoc) -> Reference:
    return Reference(spec, source)


def photo(name: str) -> bytes:
    """A photo that ships with scikit-image."""
    return (files("skimage") / "data" / name).read_bytes()


@pytest.fixture(scope="session")
def chelsea() -> bytes:
    return photo("chelsea.png")


@pytest.fixture(scope="session")
def coffee() -> bytes:
    return photo("coffee.png")
