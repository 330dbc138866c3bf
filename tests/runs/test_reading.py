"""Files of a run folder are read with care."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from nasplat.errors import SearchError
from nasplat.runs.reading import certificate_in
from nasplat.workflows.export import Certificate

pytestmark = pytest.mark.fast
ROW = {"file": "n.onnx", "sha256": "0", "size_bytes": 1, "opset": 18, "tolerance": 1e-4, "max_relative_error": 0.0}
ROW |= {"checks": [{"batch": 1, "seed": 0}], "task_metric": None, "macs": 1, "params": 1, "graph_key": "k"}
ROW |= {"torch_latency_ms": 1.0, "onnx_latency_ms": 1.0, "versions": {}, "machine": "cpu"}
"""A certificate as it was before it told of batch, inputs and outputs."""


def test_certificates_of_before_are_read(tmp_path: Path) -> None:
    file = tmp_path / "n.certificate.json"
    file.write_text(json.dumps(ROW), encoding="utf-8")
    found = certificate_in(file)
    assert found is not None
    assert (found.sha256, found.batch, found.inputs, found.notes) == ("0", None, [], [])
    assert set(ROW) == {f.name for f in fields(Certificate) if f.default is f.default_factory is MISSING}
    whole = json.loads(found.to_json()) | {"batch": 3, "notes": ["fixed"]}
    file.write_text(json.dumps(whole), encoding="utf-8")
    assert getattr(certificate_in(file), "batch", None) == 3


def test_certificates_that_were_cut_short_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "n.certificate.json"
    assert certificate_in(file) is None
    file.write_text(json.dumps({k: v for k, v in ROW.items() if k != "macs"}), encoding="utf-8")
    with pytest.raises(SearchError, match="got one without macs"):
        certificate_in(file)
