"""README: what is hidden stays hidden, pictures become files, links lead somewhere."""

import base64
import sys

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

sys.path.insert(0, str(ROOT / 'tools'))
import pages  # noqa: E402

PNG = base64.b64decode(
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
)


@pytest.fixture
def project(tmp_path):
    "A project whose index holds one cell of every kind."

    def shows(**data):
        return [new_output('display_data', {k.replace('_', '/'): v for k, v in data.items()})]

    nb = new_notebook(
        cells=[
            new_markdown_cell(
                '# title\n\n> One sentence.\n\n[room](foundation/00_core.ipynb#seeds) '
                '[rules](../CONTRIBUTING.md) [web](https://example.org/x) `[not](a/link)`'
            ),
            new_code_cell('#| hide\nsecret = 1'),
            new_code_cell(
                '#| echo: false\n#| label: garments\n#| fig-alt: "Ten garments"\ndraw()',
                outputs=shows(image_png=base64.b64encode(PNG).decode(), text_plain='<Figure>'),
            ),
            new_code_cell(
                '#| echo: false\ntable()',
                outputs=shows(
                    text_markdown='| a [b](../results/x.csv) |\n|---|\n| 1 |',
                    text_plain='<Markdown>',
                ),
            ),
            new_code_cell('#| output: false\nquiet()', outputs=shows(text_plain='noise')),
            new_markdown_cell('```sh\necho [kept](as/it/is)\n```'),
        ]
    )
    (tmp_path / 'nbs').mkdir()
    nbformat.write(nb, tmp_path / 'nbs' / 'index.ipynb')
    return tmp_path


def test_readme_shows_what_a_reader_should_see(project):
    text = pages.readme(project)['README.md']
    assert text.split('\n')[1:4] == ['# title', '', '> One sentence.']
    for gone in ['secret', 'draw()', 'table()', 'noise', '<Figure>', '#|', '<Markdown>']:
        assert gone not in text, gone
    for there in [
        'quiet()',
        '| 1 |',
        '![Ten garments](nbs/images/index-garments.png)',
        '[room](nbs/foundation/00_core.ipynb#seeds)',
        '[rules](CONTRIBUTING.md)',
        '[b](results/x.csv)',
        '[web](https://example.org/x)',
        '`[not](a/link)`',
        '[kept](as/it/is)',
    ]:
        assert there in text, there
    assert '```python\n\n```' not in text


def test_readme_is_written_once_and_checked(project, capsys):
    picture = 'nbs/images/index-garments.png'
    assert pages.stale(project) == ['README.md', picture]
    pages.write_readme(project)
    assert pages.stale(project) == []
    assert (project / picture).read_bytes() == PNG
    before = (project / 'README.md').stat().st_mtime_ns
    pages.write_readme(project)
    assert 'nothing to do' in capsys.readouterr().out
    assert (project / 'README.md').stat().st_mtime_ns == before


@pytest.mark.parametrize(
    'damage', ['README.md', 'nbs/images/index-garments.png', 'nbs/images/index-left-over.png']
)
def test_readme_out_of_sync_is_noticed_and_repaired(project, damage):
    pages.write_readme(project)
    (project / damage).write_bytes(b'changed by hand')
    assert pages.stale(project) == [damage]
    pages.write_readme(project)
    assert pages.stale(project) == []
    assert (project / damage).exists() == ('left-over' not in damage)


def test_page_names_are_nbdevs():
    assert [
        pages.page_name(p)
        for p in ['index.ipynb', 'foundation/00_core.ipynb', 'labs/03a_Fashion_mnist.ipynb']
    ] == ['index.html', 'foundation/core.html', 'labs/fashion_mnist.html']
