"""What `fashion_lab share` writes and uploads. The hub is a stand-in on this machine."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import yaml

from fashion_lab.runs.run import all_runs
from fashion_lab.studio.cli import main
from fashion_lab.studio.share import card_head, model_card, plain_markdown, push

NASTY = '<img src=x onerror=alert(1)> | **bold** [a](b) \n# head'


class Hub(BaseHTTPRequestHandler):
    "As much of the hub's interface as an upload of small files needs."

    asked = []
    files = {}

    def log_message(self, *args):
        pass

    def reply(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.asked.append((self.path, self.headers.get('Authorization')))
        if self.path == '/api/repos/create':
            return self.reply(dict(url=f'http://{self.headers["Host"]}/me/shoes', id='me/shoes'))
        if self.path == '/api/validate-yaml':
            return self.reply(dict(errors=[], warnings=[]))
        if '/preupload/' in self.path:
            files = json.loads(body)['files']
            answer = [dict(path=f['path'], uploadMode='regular', shouldIgnore=False) for f in files]
            return self.reply(dict(files=answer))
        if '/commit/' in self.path:
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    self.files[line['value']['path']] = base64.b64decode(line['value']['content'])
            return self.reply(
                dict(
                    commitUrl=f'http://{self.headers["Host"]}/me/shoes/commit/{"0" * 40}',
                    commitOid='0' * 40,
                    success=True,
                )
            )
        return self.reply(dict(error='no such address'), 404)

    def do_GET(self):
        self.reply(dict(id='me/shoes', sha='0' * 40, siblings=[]))


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.asked.clear()
    Hub.files.clear()
    monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{server.server_address[1]}')
    yield Hub
    server.shutdown()


@pytest.fixture(scope='module')
def run(smoke):
    root, done = smoke('fashion_mnist')
    assert done.returncode == 0, done.stderr
    return all_runs(root, 'fashion_mnist')[0]


def test_one_page_and_a_folder(run, tmp_path, capsys):
    words = ['share', 'fashion_mnist', '--run', run.path, '--folder', tmp_path]
    assert main([*map(str, words), '--licence', 'cc0-1.0']) == 0
    said = capsys.readouterr().out
    (page,) = tmp_path.glob('*.html')
    assert str(page) in said and str(tmp_path / 'hub') in said
    text = page.read_text()
    assert not re.search(r'(?:src|href)="(?!data:|https:|#)', text)
    assert run.name in text and 'mistakes' in text
    names = {f.name for f in (tmp_path / 'hub').iterdir()}
    assert {'README.md', 'model.safetensors', 'fashion_mnist.onnx', 'fashion_mnist.json'} <= names
    head = yaml.safe_load((tmp_path / 'hub' / 'README.md').read_text().split('---')[1])
    assert head['license'] == 'cc0-1.0'


def test_a_folder_is_uploaded(tmp_path, hub, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    (tmp_path / 'README.md').write_text('---\nlicense: cc0-1.0\n---\n# Shoes\n')
    (tmp_path / 'model.safetensors').write_bytes(b'weights')
    assert 'me/shoes' in push(tmp_path, 'me/shoes')
    assert hub.files['model.safetensors'] == b'weights' and 'README.md' in hub.files
    assert {token for _, token in hub.asked} == {'Bearer hf_secret'}


def test_nothing_is_uploaded_without_a_token(tmp_path, hub, monkeypatch):
    monkeypatch.delenv('HF_TOKEN', raising=False)
    monkeypatch.setattr('huggingface_hub.get_token', lambda: None)
    with pytest.raises(ValueError, match='there is no token'):
        push(tmp_path, 'me/shoes')
    assert not hub.asked


def test_a_hub_that_refuses_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(OSError, match='me/shoes could not be uploaded'):
        push(tmp_path, 'me/shoes')


def test_names_of_users_are_text(run, monkeypatch):
    odd = SimpleNamespace(classes=[NASTY])
    monkeypatch.setattr('fashion_lab.studio.share.portable', lambda r: odd)
    monkeypatch.setattr('fashion_lab.studio.share.run_card', lambda r: dict(Data=NASTY))
    card = model_card(run)
    assert '<img' not in card.replace('\\<', '') and '**bold**' not in card
    assert not re.search('^# head', card, re.M)
    assert yaml.safe_load(card_head(run, NASTY).strip('-\n'))['license'] == NASTY
    assert plain_markdown('a | b') == r'a \| b'
