"""The two reports say everything that a build knows, and can be opened anywhere."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from builder.errors import PublishError
from builder.publish.manifest import read_manifest
from builder.report import read_facts, report_folder, write_report

STEPS = [("load checkpoint", 0.25), ("export vision", 4.5), ("publish", 0.125)]
VARIANTS = {
    "precision": "int8-dynamic",
    "reason": "the fastest within its tolerance | of two",
    "variants": [
        {
            "precision": name,
            "bytes": size,
            "max_abs_error": error,
            "min_cosine": 0.9999,
            "tolerance": {"max_abs_error": 0.05, "min_cosine": 0.99},
            "within": True,
            "accuracy": None,
            "milliseconds": time,
            "speed": 1.0,
            "threads": 1,
        }
        for name, size, error, time in (
            ("fp32", 40_000_000, 2e-6, 8.0),
            ("int8-dynamic", 11_000_000, 3e-2, 4.0),
        )
    ]
    + [{"precision": "int4", "failure": "no such kernel", "within": False}],
}


class Page(HTMLParser):
    """Tags, attributes and text of a page; an unclosed element fails."""

    VOID = frozenset({"meta", "br", "rect", "path", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def edit_manifest(repository: Path, models: list[str] | None = None, **values: Any) -> None:
    """Change what the manifest says of its only member."""
    path = repository / "manifest.json"
    manifest = json.loads(path.read_text())
    member = manifest["members"].pop("arr_coc")
    member["versions"]["1"].update(values)
    member["models"] = models or member["models"]
    name = member["versions"]["1"]["spec"]["name"]
    path.write_text(json.dumps({**manifest, "members": {name: member}}))


def test_both_reports_hold_the_facts(repository: Path, tmp_path: Path) -> None:
    edit_manifest(repository, precision={"vision": VARIANTS})
    write_report(repository, tmp_path / "report", STEPS)
    page = Page((tmp_path / "report" / "report.html").read_text())
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert page.open == []
    for text in (page.text, markdown):
        for words in (
            "some/checkpoint",  # where from
            "ab" * 32,  # hashes
            "transformers 5",  # versions
            "2.0e-06",  # parity
            "1e-03",  # what is allowed
            "11.0 MB",  # of the precision that was chosen
            "failed: no such kernel",
            "vision/1/model.onnx",  # files
            "1.5 MB",
            "export vision",  # times
            "4.50" if text is markdown else "4.5 s",
            "data_type: TYPE_UINT8",  # configs
            "kept_indices",  # tensors
        ):
            assert words in text, words


def test_the_plots_of_the_markdown_stand_beside_it(repository: Path, tmp_path: Path) -> None:
    edit_manifest(repository, precision={"vision": VARIANTS})
    files = write_report(repository, tmp_path / "report", STEPS)
    named = re.findall(r"\]\(([^)]+\.svg)\)", (tmp_path / "report" / "report.md").read_text())
    assert sorted(named) == sorted(path.name for path in files if path.suffix == ".svg")
    assert len(named) == 5
    for name in named:
        assert ElementTree.parse(tmp_path / "report" / name).getroot().tag.endswith("svg")


def test_the_page_needs_nothing_from_outside(repository: Path, tmp_path: Path) -> None:
    write_report(repository, tmp_path / "report", STEPS)
    page = Page((tmp_path / "report" / "report.html").read_text())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "image", "use"}
    for _, attributes in page.tags:
        assert not {"src", "href", "xlink:href"} & attributes.keys()


def test_what_somebody_named_is_text_on_the_page(repository: Path, tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>'
    edit_manifest(
        repository,
        spec={"name": bad, "checkpoint": {"path": bad}},
        source={"sha256": bad, "files": {bad: bad}},
    )
    write_report(repository, tmp_path / "report", [(bad, 1.0)])
    html = (tmp_path / "report" / "report.html").read_text()
    assert "<script" not in html
    assert Page(html).text.count(bad) > 5
    for line in (tmp_path / "report" / "report.md").read_text().splitlines():
        assert "<script" not in line or line.startswith("  ")  # only in the JSON block


def test_a_build_that_exported_nothing(repository: Path, tmp_path: Path) -> None:
    edit_manifest(repository, parity=[])
    write_report(repository, tmp_path / "report")
    assert "Nothing was compared" in (tmp_path / "report" / "report.md").read_text()
    assert not (tmp_path / "report" / "times.svg").exists()


def test_an_error_over_its_tolerance_is_marked(repository: Path) -> None:
    row = {**read_manifest(repository).only.parity[0]}
    edit_manifest(repository, parity=[{**row, "max_abs_error": 0.5, "passed": False}])
    write_report(repository, repository.parent / "report")
    assert "OVER" in (repository.parent / "report" / "report.html").read_text()
    assert 'class="over"' in (repository.parent / "report" / "parity.svg").read_text()


def test_a_build_of_an_onnx_file(repository: Path, tmp_path: Path) -> None:
    edit_manifest(
        repository, models=["vision"], spec={"name": "vision", "onnx": {"path": "some/file.onnx"}}
    )
    write_report(repository, tmp_path / "report")
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "From `some/file.onnx`" in markdown
    assert "onnx, built for" in markdown
    graph = ElementTree.parse(tmp_path / "report" / "graph.svg")
    texts = [element.text for element in graph.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("vision") == 2, "its title and its node"


def test_only_models_of_the_build_are_reported(repository: Path) -> None:
    (repository / "somebody_elses" / "1").mkdir(parents=True)
    assert "somebody_elses" not in {model.name for model in read_facts(repository).models}


def test_the_report_stands_beside_the_repository(repository: Path) -> None:
    assert report_folder(repository) == repository.parent / "repository-report"


@pytest.mark.parametrize("inside", [".", "report", "vision/1"])
def test_a_report_in_the_repository_is_refused(repository: Path, inside: str) -> None:
    with pytest.raises(PublishError, match="Triton would take it for a model"):
        write_report(repository, repository / inside)


def test_a_folder_that_was_not_built(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(PublishError, match=r"no manifest\.json"):
        write_report(tmp_path, tmp_path.parent / "report")


def test_a_report_that_cant_be_written(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match="is published, but its report can't be written"):
        write_report(repository, tmp_path / "file" / "report")
