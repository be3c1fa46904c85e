"""The page about sagas shows the diagram that its own program draws."""

from pathlib import Path

from tests.docs.test_markdown import ROOT, blocks, started

PAGE = ROOT / "docs" / "sagas.md"


def test_diagram_is_that_of_the_program(tmp_path: Path) -> None:
    """The page's first program runs and writes just what stands in the page."""
    source = "\n".join(block.body for block in blocks(PAGE, "python") if "fresh" not in block.words)
    run = started(source, tmp_path)

    assert run.returncode == 0, run.stderr
    assert (tmp_path / "checkout.mmd").read_text() == blocks(PAGE, "mermaid")[0].body
