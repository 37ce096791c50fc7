// The page: what a visitor drops, takes, pastes or draws goes to the thread in worker.js, and its
// answer is shown. Names of classes and files are text, never markup.
const here = new URL('.', import.meta.url);
const part = name => document.getElementById(`fl-${name}`);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---------------------------------------------------------------------------------------------
// The thread that computes

const waiting = new Map(); // number of a task -> {done, failed, report}
let tasks = 0;
let thread = null;

function ask(task, given = {}, report = () => {}) {
  thread ??= startThread();
  const id = ++tasks;
  thread.postMessage({id, task, ...given});
  return new Promise((done, failed) => waiting.set(id, {done, failed, report}));
}

function startThread() {
  const made = new Worker(new URL('worker.js', here), {type: 'module'});
  made.onmessage = ({data: {id, result, error, progress}}) => {
    if (progress !== undefined) { waiting.get(id).report(progress); return; }
    const {done, failed} = waiting.get(id);
    waiting.delete(id);
    if (error) failed(new Error(error));
    else done(result);
  };
  made.onerror = () => {
    const text = 'The thread that computes could not start; a web server has to serve this page '
      + '(python -m http.server).';
    waiting.forEach(({failed}) => failed(new Error(text)));
    waiting.clear();
    thread = null;
  };
  return made;
}

// ---------------------------------------------------------------------------------------------
// State

const DRAWING = 'Drawing';

let networks = [];   // what networks.json lists
let chosen = null;   // one of them
let loaded = null;   // the one that the thread holds
let loading = null;  // a promise of that
const loadedFiles = new Set();
let shown = null;    // {pictures, outputs, names}: the latest answer
let turn = 0;        // of the latest question; older answers are not shown

const sidesOf = facts => facts.input.shape.slice(1);
const isPair = facts => facts.classes.length === 0; // its last file compares pictures
const megabytes = bytes => `${(bytes / 1e6).toFixed(1)} MB`;

function say(text) { part('status').textContent = text; }

function complain(error) {
  say('');
  part('error').textContent = error.message;
  part('error').hidden = false;
}

function choose(facts) {
  chosen = facts;
  shown = null;
  turn += 1;
  part('result').hidden = true;
  part('error').hidden = true;
  say('');
  part('about').textContent = facts.about ?? '';
  part('invitation').textContent = isPair(facts) ? 'Drop photos of two shoes, or of a heap of single shoes, here, or'
    : 'Drop a photo here, paste one, or';
  part('file').multiple = isPair(facts);
  const [height, width, channels] = sidesOf(facts);
  part('pad').hidden = !(height === 28 && width === 28 && channels === 1);
  showLoad();
  showFacts(facts);
}

function showLoad() {
  const button = part('load');
  const missing = chosen.files.map((file, k) => (loadedFiles.has(file) ? 0 : chosen.sizes[k]));
  const bytes = missing.reduce((a, b) => a + b, loadedFiles.size ? 0 : chosen.runtime_bytes);
  button.hidden = loaded === chosen;
  button.disabled = loading !== null;
  button.textContent = `Load now (${megabytes(bytes)})`;
}

// Everything is loaded when it is first needed
async function ready() {
  if (loaded === chosen) return;
  if (loading) { await loading.catch(() => {}); return ready(); }
  const wanted = chosen;
  say('Loading the network …');
  await offlineReady();
  loading = ask('load', {facts: wanted});
  showLoad();
  try {
    await loading;
    loaded = wanted;
    wanted.files.forEach(file => loadedFiles.add(file));
    say('The network is loaded.');
  } catch (error) {
    loaded = null;
    throw error;
  } finally {
    loading = null;
    showLoad();
  }
  if (loaded !== chosen) await ready();
}

// ---------------------------------------------------------------------------------------------
// Questions

let pair = []; // files of two shoes, while one of them is missing

async function answerFiles(files) {
  files = [...files];
  if (!files.length) return;
  if (!isPair(chosen)) { await answer({files: files.slice(0, 1)}, [files[0].name]); return; }
  pair = files.length > 1 || pair.length > 1 ? files : [...pair, ...files];
  if (pair.length === 1) { say(`${pair[0].name}: now the other shoe.`); return; }
  await answer({files: pair}, pair.map(f => f.name));
}

async function answer(question, names) {
  const mine = ++turn;
  part('error').hidden = true;
  try {
    await ready();
    if (mine !== turn) return;
    say('Computing …');
    const given = await ask('answer', question);
    if (mine !== turn) return;
    shown = {...given, names};
    showAnswer();
  } catch (error) {
    if (mine !== turn) return;
    part('result').hidden = true;
    complain(error);
  }
}

// ---------------------------------------------------------------------------------------------
// Answers

function showAnswer() {
  const {pictures, outputs, names, seconds} = shown;
  part('result').hidden = false;
  part('pictures').replaceChildren(...pictures.map((pixels, k) => pictureOf(pixels, names[k])));
  part('pictures').classList.toggle('fl-many', pictures.length > 2);
  part('heat-line').hidden = isPair(chosen);
  part('heat-note').hidden = true;
  part('progress').hidden = true;
  part('heat').textContent = 'Show what the answer rests on';
  part('bars').replaceChildren();
  part('matrix').replaceChildren();
  if (isPair(chosen)) showPairs(outputs, names);
  else showClasses(outputs[0]);
  say(`Answered in ${seconds.toFixed(2)} s.`);
  if (names[0] !== DRAWING) part('result').scrollIntoView({block: 'nearest'});
}

function pictureOf(pixels, name) { // as the network sees it
  const [height, width, channels] = sidesOf(chosen);
  const canvas = element('canvas', width < 100 ? 'fl-small' : '');
  [canvas.width, canvas.height] = [width, height];
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${name}, as the network sees it`);
  const image = new ImageData(width, height);
  for (let k = 0; k < width * height; k++) {
    for (let c = 0; c < 3; c++) image.data[k * 4 + c] = pixels[k * channels + Math.min(c, channels - 1)];
    image.data[k * 4 + 3] = 255;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
  const figure = element('figure');
  figure.append(canvas, element('figcaption', '', `${name}, as the network sees it`));
  return figure;
}

function ranked(probabilities) { // [[class, probability], ...], the likeliest first
  return [...probabilities].map((p, k) => [k, p]).sort((a, b) => b[1] - a[1]);
}

const percent = p => `${(100 * p).toFixed(1)} %`;

function showClasses(probabilities) {
  const order = ranked(probabilities);
  const [best, p] = order[0];
  part('answer').textContent = `${chosen.classes[best]}, ${percent(p)}`;
  part('bars').replaceChildren(...order.map(([k, value]) => barOf(chosen.classes[k], value)));
}

function barOf(name, value) {
  const line = element('li');
  const track = element('div', 'fl-track');
  const bar = element('div', 'fl-bar');
  bar.style.width = `${100 * value}%`;
  track.append(bar);
  line.append(element('span', 'fl-name', name), track, element('span', 'fl-value', percent(value)));
  return line;
}

// ---------------------------------------------------------------------------------------------
// Pairs of shoes: a probability for every two photos that they belong together

function showPairs(table, names) {
  if (table.length === 2) {
    const p = table[0][1];
    part('answer').textContent = p >= 0.5 ? `A pair, ${percent(p)}` : `Two different shoes, ${percent(1 - p)}`;
    part('bars').replaceChildren(barOf('A pair', p), barOf('Two different shoes', 1 - p));
    return;
  }
  part('answer').textContent = 'Which belong together';
  part('matrix').replaceChildren(matrixOf(table, names));
}

function matrixOf(table, names) {
  const made = element('table');
  const head = made.createTHead().insertRow();
  head.append(element('th'), ...names.map((_, k) => element('th', '', k + 1)));
  table.forEach((row, i) => {
    const line = made.insertRow();
    line.append(element('th', '', `${i + 1} ${names[i]}`));
    const others = row.filter((_, k) => k !== i);
    row.forEach((p, j) => {
      const best = i !== j && p >= 0.5 && p === Math.max(...others);
      line.append(element('td', best ? 'fl-pair' : '', i === j ? '' : percent(p)));
    });
  });
  return made;
}

// ---------------------------------------------------------------------------------------------
// What an answer rests on

let heating = false;

async function toggleHeat() {
  if (heating) { thread.postMessage({task: 'stop'}); return; }
  const mine = turn;
  const target = ranked(shown.outputs[0])[0][0];
  heating = true;
  part('heat').textContent = 'Stop';
  part('progress').hidden = false;
  try {
    const {heat} = await ask('occlude', {picture: 0, target}, p => { part('progress').value = p; });
    if (heat && mine === turn) drawHeat(heat);
  } catch (error) {
    if (mine === turn) complain(error);
  } finally {
    heating = false;
    part('heat').textContent = 'Show what the answer rests on';
    part('progress').hidden = true;
  }
}

function drawHeat(heat) { // red where the answer falls, blue where it rises, over the picture
  const canvas = part('pictures').querySelector('canvas');
  const context = canvas.getContext('2d');
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const most = heat.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-6);
  heat.forEach((v, k) => {
    const strength = 0.75 * Math.abs(v) / most;
    const colour = v > 0 ? [214, 39, 40] : [31, 119, 180];
    for (let c = 0; c < 3; c++) {
      pixels.data[k * 4 + c] = (1 - strength) * pixels.data[k * 4 + c] + strength * colour[c];
    }
  });
  context.putImageData(pixels, 0, 0);
  const caption = `Largest change of the probability: ${percent(most)}`;
  canvas.nextSibling.textContent = caption;
  canvas.setAttribute('aria-label', `Heat map. ${caption}`);
  part('heat-note').hidden = false;
}

// ---------------------------------------------------------------------------------------------
// The drawing pad: bright on black, as Fashion-MNIST's pictures are

const pad = part('drawing');
const ink = pad.getContext('2d', {willReadFrequently: true});
const pen = {x: 140, y: 140, down: false};

function stroke(x, y) {
  ink.strokeStyle = part('eraser').checked ? '#000' : '#d0d0d0';
  ink.lineWidth = Number(part('pen').value);
  ink.lineCap = 'round';
  ink.beginPath();
  ink.moveTo(pen.x, pen.y);
  ink.lineTo(x, y);
  ink.stroke();
}

function moveTo(x, y) {
  x = Math.min(pad.width, Math.max(0, x));
  y = Math.min(pad.height, Math.max(0, y));
  if (pen.down) stroke(x, y);
  [pen.x, pen.y] = [x, y];
}

function clearPad() {
  ink.fillStyle = '#000';
  ink.fillRect(0, 0, pad.width, pad.height);
}

function placeOf(event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) * pad.width / box.width, (event.clientY - box.top) * pad.height / box.height];
}

function drawnPixels() { // means of 10 x 10 blocks
  const {data} = ink.getImageData(0, 0, pad.width, pad.height);
  const pixels = new Uint8Array(28 * 28);
  for (let k = 0; k < pixels.length; k++) {
    const [top, left] = [10 * Math.floor(k / 28), 10 * (k % 28)];
    let sum = 0;
    for (let y = top; y < top + 10; y++) {
      for (let x = left; x < left + 10; x++) sum += data[(y * pad.width + x) * 4];
    }
    pixels[k] = Math.round(sum / 100);
  }
  return pixels;
}

const STEPS = {ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10]};

function padKey(event) {
  if (event.key === ' ') {
    pen.down = !pen.down;
    if (pen.down) stroke(pen.x, pen.y);
    say(`Pen ${pen.down ? 'down' : 'up'}.`);
  } else if (event.key in STEPS) {
    moveTo(pen.x + STEPS[event.key][0], pen.y + STEPS[event.key][1]);
  } else return;
  event.preventDefault();
  if (pen.down) answer({pixels: drawnPixels()}, [DRAWING]);
}

function wirePad() {
  clearPad();
  pad.addEventListener('pointerdown', event => {
    pad.setPointerCapture(event.pointerId);
    [pen.x, pen.y] = placeOf(event);
    pen.down = true;
    stroke(pen.x, pen.y);
  });
  pad.addEventListener('pointermove', event => {
    if (event.buttons) moveTo(...placeOf(event));
  });
  pad.addEventListener('pointerup', () => {
    pen.down = false;
    answer({pixels: drawnPixels()}, [DRAWING]);
  });
  pad.addEventListener('keydown', padKey);
  part('clear').addEventListener('click', () => { clearPad(); part('result').hidden = true; say(''); });
}

// ---------------------------------------------------------------------------------------------
// Facts, files, and what is kept for use without a network

function showFacts(facts) {
  const rows = {...facts.card, Download: megabytes(facts.sizes.reduce((a, b) => a + b, 0))};
  const list = Object.entries(rows).filter(([, value]) => value !== null && value !== '');
  part('facts').replaceChildren(...list.flatMap(([name, value]) => [
    element('dt', '', name),
    element('dd', '', Array.isArray(value) ? value.join(', ') : String(value)),
  ]));
}

function wireFiles() {
  for (const name of ['file', 'camera']) {
    part(name).addEventListener('change', event => {
      const files = [...event.target.files];
      event.target.value = ''; // the same file may be chosen again
      answerFiles(files);
    });
  }
  const drop = part('drop');
  for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
    drop.addEventListener(kind, event => {
      event.preventDefault();
      drop.classList.toggle('fl-over', kind === 'dragenter' || kind === 'dragover');
    });
  }
  drop.addEventListener('drop', event => answerFiles(event.dataTransfer.files));
  document.addEventListener('paste', event => {
    if (event.clipboardData.files.length) answerFiles(event.clipboardData.files);
  });
}

// Resolves when what is fetched from now on is kept; at once where a browser does not keep anything
async function offlineReady() {
  if (!('serviceWorker' in navigator)) return;
  const late = new Promise(done => setTimeout(done, 2000));
  await Promise.race([keepPage().catch(() => {}), late]);
}

let keeping = null;

function keepPage() {
  keeping ??= (async () => {
    await navigator.serviceWorker.register(new URL('offline.js', here), {scope: here.pathname});
    const {active} = await navigator.serviceWorker.ready;
    if (!navigator.serviceWorker.controller) {
      await new Promise(done => navigator.serviceWorker.addEventListener('controllerchange', done, {once: true}));
    }
    const sameSite = performance.getEntriesByType('resource').map(e => e.name).filter(u => u.startsWith(location.origin));
    active.postMessage([location.href.split('#')[0], ...sameSite]);
  })();
  return keeping;
}

async function start() {
  const answered = await fetch(new URL('networks.json', here));
  networks = await answered.json();
  const select = part('network');
  select.replaceChildren(...networks.map((facts, k) => {
    const option = element('option', '', facts.title);
    option.value = k;
    return option;
  }));
  select.parentElement.classList.toggle('fl-only', networks.length === 1);
  select.addEventListener('change', () => choose(networks[select.value]));
  const asked = networks.findIndex(facts => `#${facts.id}` === location.hash);
  select.value = Math.max(0, asked);
  part('load').addEventListener('click', () => ready().catch(complain));
  part('heat').addEventListener('click', toggleHeat);
  wireFiles();
  wirePad();
  choose(networks[select.value]);
}

start().catch(() => complain(new Error(
  'This page has to be served by a web server: python -m http.server in its folder, then http://127.0.0.1:8000.')));
