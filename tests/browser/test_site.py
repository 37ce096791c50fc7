"""The built site as a reader meets it: every page, wide and on a phone, and everything that can
be clicked."""

import json
import os
import re
from pathlib import Path

import pytest
from axe import barriers, SLOW_RULES
from conftest import ROOT, watched

LOOK = """async () => {
  const all = selector => [...document.querySelectorAll(selector)];
  const loaded = i => {
    i.loading = 'eager';
    return i.decode().then(() => null, () => i.src);
  };
  const images = [...document.images];
  return {
    broken: (await Promise.all(images.map(loaded))).filter(Boolean),
    levels: all('main :is(h1,h2,h3,h4,h5,h6)').map(h => +h.tagName[1]),
    title: document.title,
    nameless: images.filter(i => !i.hasAttribute('alt')).length,
    links: [...document.links].map(a => a.href),
    ids: all('[id]').map(e => e.id),
  };
}"""
TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  const elements = [...document.querySelectorAll('body *')];
  const wide = elements.filter(e => e.getBoundingClientRect().right > room + 1);
  return wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120)).concat('scrolls');
}"""
CUT = """() => [...document.querySelectorAll(
  '.bd-article [class*="highlight-"]:not(.output) pre, .bd-article details > pre')]
  .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1)
  .map(e => e.textContent.slice(0, 80))"""
# a page of every kind: first page, chapter, lab, module, figures, tables, overview, list, search
KINDS = [
    'index.html',
    'chapters/closures.html',
    'labs/fashion_mnist.html',
    'data/folds.html',
    'plot/classification.html',
    'widgets/confusion.html',
    'results/results.html',
    'results/benchmarks.html',
    'chapters/index.html',
    'tutorials/glossary.html',
    'contributing.html',
    'search.html',
    '404.html',
]


def out_of_order(levels):
    return [(a, b) for a, b in zip([0, *levels], levels) if b > a + 1]


def test_heading_jumps_are_recognised():
    assert out_of_order([1, 2, 4, 2]) == [(2, 4)]
    assert out_of_order([2]) == [(0, 2)]
    assert not out_of_order([1, 2, 3, 2, 3])


def pages_of(site):
    "Every page, without those that only lead on."
    return sorted(
        p.relative_to(site).as_posix()
        for p in site.rglob('*.html')
        if '_static' not in p.parts and 'This page has moved' not in p.read_text(encoding='utf-8')
    )


def test_every_page_wide_and_on_a_phone(tab, base, site):
    """Status, errors, other hosts, pictures, headings, links, what axe finds besides colours, no
    code that is cut and no scrolling to the side at 1280 and 390 pixels."""
    pages = pages_of(site)
    faults = {}
    links = {}
    ids = {}
    shots = os.environ.get('FASHION_LAB_SCREENSHOTS')
    for name in pages:
        tab.faults.clear()
        answer = tab.goto(name)
        seen = tab.evaluate(LOOK)
        found = []
        links[name], ids[name] = seen['links'], set(seen['ids'])
        if answer.status != 200:
            found.append(f'status {answer.status}')
        if seen['broken']:
            found.append(f"pictures {seen['broken']}")
        if seen['nameless']:
            found.append('a picture without alt')
        if out_of_order(seen['levels']) or seen['levels'].count(1) != 1:
            found.append(f"headings {seen['levels']}")
        found += barriers(tab, *SLOW_RULES)
        for width, height in [(1280, 900), (390, 844)]:
            tab.set_viewport_size(dict(width=width, height=height))
            if wide := tab.evaluate(TOO_WIDE):
                found.append(f'{width} pixels: {wide}')
            if cut := tab.evaluate(CUT):
                found.append(f'{width} pixels: code is cut: {cut}')
            if shots:
                tab.screenshot(path=Path(shots) / f"{name.replace('/', '-')}-{width}.png")
        tab.set_viewport_size(dict(width=1280, height=900))
        if found := found + tab.faults:
            faults[name] = found
    for name in pages:
        dead = [
            u
            for u in links[name]
            if u.startswith(base) and not alive(u.removeprefix(base), site, ids)
        ]
        if dead:
            faults.setdefault(name, []).append(f'dead links {dead}')
    assert len(pages) > 30 and not faults, '\n'.join(f'{k}: {v}' for k, v in faults.items())


def alive(target, site, ids):
    "Whether a link inside the site leads to a file, and to a place in it."
    path, _, place = target.partition('#')
    path = (path or 'index.html').partition('?')[0]
    return (site / path).is_file() and (not place or place in ids[path])


def names():
    return [
        n
        for n in ('FashionCNN', 'CNNChannel')
        if f'def {n}'
        in (code := '\n'.join(p.read_text() for p in (ROOT / 'fashion_lab').rglob('*.py')))
        or f'class {n}' in code
    ]


@pytest.mark.parametrize('name', names())
def test_search_finds(tab, name):
    """From any page, by the keyboard, without a server's help: the first hits lead to the place
    itself."""
    tab.goto('foundation/core.html')
    tab.keyboard.press('Control+k')
    tab.keyboard.type(name)
    tab.keyboard.press('Enter')
    tab.wait_for_selector('#search-results li a')
    hits = [a.get_attribute('href') for a in tab.query_selector_all('#search-results li a')]
    assert any(h.endswith(f'.html#{name.lower()}') for h in hits[:4]), hits
    tab.click(f'#search-results a[href$="#{name.lower()}"]')
    tab.locator(f'section#{name.lower()}').locator('h2, h3').first.wait_for(state='visible')
    assert not tab.faults


def test_search_says_when_nothing_is_found(tab):
    tab.goto('search.html?q=xyzzyplugh')
    tab.wait_for_function(
        "document.querySelector('#search-results').textContent.includes('did not match')"
    )
    assert not tab.query_selector_all('#search-results li a')


def test_dark_mode_toggles_and_stays(tab):
    def ground():
        return sum(
            map(
                int,
                re.findall(r'\d+', tab.evaluate('getComputedStyle(document.body).backgroundColor'))[
                    :3
                ],
            )
        )

    def choose(mode):
        tab.locator(
            '#pst-header .theme-switch-button, #pst-header .pst-theme-switch, #pst-header '
            '[aria-label*="olor mode"]'
        ).first.click()
        for _ in range(4):
            if tab.evaluate('document.documentElement.dataset.mode') == mode:
                return
            item = tab.locator(
                f'#pst-header [data-mode="{mode}"]:visible, #pst-header :is(button, a, '
                f'li):visible:text-is("{mode.title()}")'
            )
            (
                item.first
                if item.count()
                else tab.locator('#pst-header .theme-switch-button').first
            ).click()

    tab.goto('index.html')
    choose('light')
    light = ground()
    choose('dark')
    dark = ground()
    assert tab.evaluate('document.documentElement.dataset.theme') == 'dark'
    assert dark < 200 < 600 < light
    tab.goto('labs/fashion_mnist.html')
    assert tab.evaluate('document.documentElement.dataset.theme') == 'dark'
    assert ground() == dark
    assert not tab.faults


def test_tables_sort_dates_and_digests_as_text(tab):
    tab.goto('results/results.html')

    def order(*cells):
        tab.evaluate(
            """cells => {
                document.querySelector('#sorted')?.remove();
                const table = document.querySelector('.bd-article table').cloneNode(true);
                table.id = 'sorted';
                const rows = cells.map(c => `<tr><td>${c}</td></tr>`).join('');
                table.innerHTML = '<thead><tr><th>x</th></tr></thead><tbody>' + rows + '</tbody>';
                document.querySelector('.bd-article').append(table);
            }""",
            cells,
        )
        tab.add_script_tag(url='../_static/site.js')
        tab.locator('#sorted button.sort').click()
        return tab.locator('#sorted tbody td').all_inner_texts()

    assert order('2026-11-22', '2026-02-03', '2025-12-31') == [
        '2025-12-31',
        '2026-02-03',
        '2026-11-22',
    ]
    assert order('10.5 s', '9 s', '1,200 s') == ['9 s', '10.5 s', '1,200 s']
    assert order('5b', '5a', '44') == ['5a', '5b', '44']
    assert order('−2 %', '3 %', '-10 %') == ['-10 %', '−2 %', '3 %']


def test_tables_sort(tab):
    tab.goto('results/results.html')
    table = tab.locator('section#fashion-mnist table').first
    column = [h.inner_text().strip() for h in table.locator('thead th').all()].index(
        'sd over seeds'
    )

    def values():
        return [
            c.inner_text().strip()
            for c in table.locator(f'tbody tr td:nth-child({column + 1})').all()
        ]

    before, header = values(), table.locator('thead th').nth(column)
    for direction, reverse in [('ascending', False), ('descending', True)]:
        header.locator('button').click()
        numbers = [float(v) for v in values() if v]
        assert header.get_attribute('aria-sort') == direction
        assert numbers == sorted(numbers, reverse=reverse)
        assert len(numbers) > 5
        assert '' in values() and values()[len(numbers) :] == [''] * (len(before) - len(numbers)), (
            'what is blank comes last'
        )
    assert sorted(before) == sorted(values()) and not tab.faults


@pytest.mark.parametrize('tab', [dict(java_script_enabled=False)], indirect=True)
def test_without_scripts_everything_can_be_read(tab):
    tab.goto('results/results.html')
    assert tab.locator('section#fashion-mnist table').first.is_visible()
    assert not tab.locator('button.sort').count()
    tab.goto('data/statistics.html')
    assert tab.locator('math').first.is_visible()
    assert tab.locator('.bd-docs-nav a').first.is_visible()


def test_run_it(tab, base):
    tab.goto('chapters/closures.html')
    for host in ('colab.research.google.com/github/', 'www.kaggle.com/', 'mybinder.org/v2/gh/'):
        assert tab.locator(f'.run-it a[href^="https://{host}"]').is_visible()
    tab.goto('labs/fashion_mnist.html')
    assert not tab.locator('.run-how').is_visible()
    tab.click('.run-it summary')
    assert 'pip install' in tab.locator('.run-how').inner_text()
    tab.keyboard.press('Escape')
    assert not tab.locator('.run-how').is_visible()
    with tab.expect_download() as given:
        tab.click('.run-it a[download]')
    assert json.loads(Path(given.value.path()).read_text(encoding='utf-8')) == json.loads(
        (ROOT / 'nbs' / 'labs' / '03_fashion_mnist.ipynb').read_text(encoding='utf-8')
    )


def test_code_can_be_copied(tab):
    tab.goto('foundation/core.html')
    block = tab.locator('div.cell_input div.highlight:visible').first
    block.hover()
    block.locator('button.copybtn').click()
    assert (
        tab.evaluate('navigator.clipboard.readText()').strip()
        == block.locator('pre').inner_text().strip()
        != ''
    )


def test_phone_menu(tab):
    tab.set_viewport_size(dict(width=390, height=844))
    tab.goto('labs/index.html')
    menu = tab.locator('#pst-primary-sidebar, #pst-primary-sidebar-modal').get_by_role(
        'link', name='Data'
    )
    assert not menu.first.is_visible()
    tab.click('.primary-toggle')
    menu.first.click()
    tab.wait_for_url('**/data/index.html')
    assert not tab.faults


@pytest.mark.parametrize('width, theme', [(1280, 'dark'), (390, 'light')])
def test_no_barriers_on_a_page_of_each_kind(browser, base, width, theme):
    faults = {}
    with watched(browser, base, color_scheme=theme) as tab:
        tab.set_viewport_size(dict(width=width, height=900))
        for name in KINDS:
            tab.goto(name)
            assert tab.evaluate('document.documentElement.dataset.theme') == theme
            if found := barriers(tab):
                faults[name] = found
    assert not faults, '\n'.join(f'{k}: {v}' for k, v in faults.items())


def test_axe_sees_a_barrier(browser, base):
    with watched(browser, base) as tab:
        tab.goto('index.html')
        tab.evaluate("document.querySelector('.bd-article img').removeAttribute('alt')")
        assert any(line.startswith('image-alt (1)') for line in barriers(tab))


def test_the_first_page_is_light(browser, base):
    "What a first visit loads, down to the last picture, as it lies on the disk: under 700 kB."
    with watched(browser, base) as tab:
        sizes = {}
        tab.on('response', lambda r: sizes.update({r.url: len(r.body())}))
        tab.goto('index.html')
        for picture in tab.locator('img:visible').all():
            picture.scroll_into_view_if_needed()
        tab.wait_for_load_state('networkidle')
        assert len([u for u in sizes if '.webp' in u]) > 5
        assert sum(sizes.values()) < 700_000, sorted(sizes.items(), key=lambda x: -x[1])[:5]
        assert not tab.faults


def test_what_is_not_there_is_answered_with_a_page(tab):
    "As GitHub Pages does, at any depth, and its links lead home."
    assert tab.goto('no/such/page.html').status == 404
    assert tab.locator('h1').inner_text().startswith('This page does not exist')
    assert not [f for f in tab.faults if 'no/such' not in f and '404' not in f]
    tab.click('.bd-article a[href$="names.html"]')
    tab.wait_for_url('**/names.html')
    assert not tab.locator('h1').inner_text().startswith('This page')


def test_wide_tables_keep_their_first_column(tab):
    tab.set_viewport_size(dict(width=390, height=844))
    tab.goto('results/results.html')
    box = tab.locator('.wide.scrolls').first
    before = box.locator('tbody td').first.bounding_box()['x']
    box.evaluate('e => { e.scrollLeft = 150 }')
    tab.wait_for_timeout(100)
    assert abs(box.locator('tbody td').first.bounding_box()['x'] - before) < 2
    box.evaluate('e => { e.scrollLeft = e.scrollWidth }')
    tab.wait_for_function("document.querySelector('.wide.scrolls').classList.contains('at-end')")
    assert box.get_attribute('tabindex') == '0' and box.get_attribute('aria-label')


def test_how_a_result_was_made_can_be_copied(tab):
    tab.goto('results/results.html')
    widths = tab.evaluate(
        "[...document.querySelectorAll('.bd-article table')].map(t => t.scrollWidth)"
    )
    assert max(widths) < 1200
    origin = tab.locator('details.origin').first
    assert not origin.locator('pre').is_visible()
    origin.locator('summary').click()
    origin.locator('button').click()
    origin.locator('button', has_text='Copied').wait_for()
    copied = tab.evaluate('navigator.clipboard.readText()')
    assert copied == origin.locator('pre').text_content() and 'command: ' in copied


def test_try_it(tab, site):
    "A shipped network answers on the page; nothing heavy is fetched before that."
    if not (site / 'try').is_dir():
        pytest.skip('the package brings no networks yet')
    asked = []
    tab.on('request', lambda request: asked.append(request.url))
    tab.goto('try/index.html')
    tab.locator('#fl-about', has_text='?').wait_for()
    assert not [u for u in asked if u.endswith(('.wasm', '.onnx'))]
    picture = ROOT / 'nbs' / 'images' / 'index-labs.png'
    tab.set_input_files('#fl-file', picture)
    tab.locator('#fl-status', has_text='Answered').wait_for(timeout=60_000)
    assert tab.locator('#fl-bars li').count() > 5 and not tab.faults
