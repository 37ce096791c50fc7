// Networks in a thread of their own, so that the page stays usable while they compute. Nothing is
// sent anywhere: the runtime and the networks are files of this site.
import {networkPixels, readPicture, UnreadablePicture} from './preparation.js';

let runtime = null;         // onnxruntime-web
const sessions = new Map(); // file -> an open network
let network = null;         // the facts of the one that answers
let pictures = [];          // the latest pixels, to look closer at: [Uint8Array, ...]
let stopped = false;        // whether the visitor no longer waits for a heat map

async function startRuntime() {
  if (runtime) return;
  const folder = new URL('runtime/', self.location);
  const ort = await import(new URL('ort.wasm.min.mjs', folder));
  ort.env.wasm.numThreads = 1; // more would need headers that plain web hosts do not send
  ort.env.wasm.wasmPaths = folder.href;
  runtime = ort;
}

async function open(file) {
  if (sessions.has(file)) return;
  const answer = await fetch(new URL(file, self.location));
  if (!answer.ok) throw new Error(`${file} could not be loaded (status ${answer.status})`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  sessions.set(file, await runtime.InferenceSession.create(bytes, {executionProviders: ['wasm']}));
}

// A network is one file, or several, each of which takes what the one before gives
async function load({facts}) {
  await startRuntime();
  for (const file of facts.files) await open(file);
  network = facts;
  const [height, width, channels] = facts.input.shape.slice(1);
  await compute(new Uint8Array(height * width * channels)); // the first pass takes longer
  return {};
}

async function through(files, tensor) {
  for (const file of files) {
    const session = sessions.get(file);
    const given = await session.run({[session.inputNames[0]]: tensor});
    tensor = given[session.outputNames[0]];
  }
  return tensor;
}

async function compute(pixels, files = network.files) { // one picture -> Float32Array
  const tensor = new runtime.Tensor('uint8', pixels, [1, ...network.input.shape.slice(1)]);
  return (await through(files, tensor)).data;
}

// The last file compares pictures: [row of probabilities, ...]
async function compare() {
  const features = [];
  for (const pixels of pictures) features.push(await compute(pixels, network.files.slice(0, -1)));
  const [n, length] = [features.length, features[0].length];
  const together = new Float32Array(n * length);
  features.forEach((values, k) => together.set(values, k * length));
  const tensor = new runtime.Tensor('float32', together, [n, length]);
  const {data} = await through(network.files.slice(-1), tensor);
  return features.map((_, k) => data.slice(k * n, (k + 1) * n));
}

async function answer({files, pixels}) {
  const start = performance.now();
  pictures = pixels ? [pixels] : [];
  for (const file of files ?? []) {
    const picture = await readPicture(file);
    pictures.push(networkPixels(picture, network));
    picture.close();
  }
  const outputs = network.classes.length ? [await compute(pictures[0])] : await compare();
  return {pictures, outputs, seconds: (performance.now() - start) / 1000};
}

// How much the score of a class falls when a place is covered with the picture's mean colour
// (fashion_lab.interpret.occlusion_map)
async function occlude({picture, target}, report) {
  stopped = false;
  const [height, width, channels] = network.input.shape.slice(1);
  const pixels = pictures[picture];
  const patch = Math.round(Math.min(height, width) / 4);
  const places = placesFor(height, width, patch, Math.ceil(patch / 2));
  const colour = meanColour(pixels, channels);
  const whole = await compute(pixels);
  const falls = new Float32Array(height * width);
  const times = new Float32Array(height * width);
  for (const [k, [top, left]] of places.entries()) {
    if (stopped) return {stopped};
    const covered = await compute(cover(pixels, [top, left], patch, width, channels, colour));
    for (let y = top; y < top + patch; y++) {
      for (let x = left; x < left + patch; x++) {
        falls[y * width + x] += whole[target] - covered[target];
        times[y * width + x] += 1;
      }
    }
    report((k + 1) / places.length);
    await new Promise(done => setTimeout(done)); // lets the word to stop come through
  }
  return {heat: falls.map((v, k) => v / times[k])};
}

function starts(length, patch, step) {
  const out = [];
  for (let at = 0; at < length - patch; at += step) out.push(at);
  return [...out, length - patch];
}

function placesFor(height, width, patch, step) {
  return starts(height, patch, step).flatMap(top => starts(width, patch, step).map(left => [top, left]));
}

function meanColour(pixels, channels) {
  const sums = new Array(channels).fill(0);
  pixels.forEach((v, k) => { sums[k % channels] += v; });
  return sums.map(s => Math.round(s / (pixels.length / channels)));
}

function cover(pixels, [top, left], patch, width, channels, colour) {
  const out = pixels.slice();
  for (let y = top; y < top + patch; y++) {
    for (let x = left; x < left + patch; x++) out.set(colour, (y * width + x) * channels);
  }
  return out;
}

const TASKS = {load, answer, occlude};

self.onmessage = async ({data: {id, task, ...given}}) => {
  if (task === 'stop') { stopped = true; return; }
  try {
    const result = await TASKS[task](given,
      progress => self.postMessage({id, progress}));
    self.postMessage({id, result});
  } catch (error) {
    const expected = error instanceof UnreadablePicture;
    self.postMessage({id, error: expected ? error.message : `It did not work: ${error.message}`});
  }
};
