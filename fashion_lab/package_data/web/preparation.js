// A picture file as the pixels that a network takes: what fashion_lab.export.answering does with
// numpy and Pillow, step for step. Pillow's own rounding is kept, so that answers agree.

const WHITE = [255, 255, 255];

// ---------------------------------------------------------------------------------------------
// Numbers as Python and C have them

// Python's round: halves go to the even neighbour
function roundEven(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

// ---------------------------------------------------------------------------------------------
// Sources: {width, height, read(left, top, right, bottom) -> RGB bytes, row by row}

export function pixelSource(width, height, rgb) {
  function read(left, top, right, bottom) {
    const out = new Uint8Array((right - left) * (bottom - top) * 3);
    for (let y = top; y < bottom; y++) {
      const start = (y * width + left) * 3;
      out.set(rgb.subarray(start, start + (right - left) * 3), (y - top) * (right - left) * 3);
    }
    return out;
  }
  return {width, height, read};
}

// A decoded picture, transparent parts on white. Only the part that is asked for is copied out of
// it, so that a photo of 50 megapixels needs no canvas of its size.
export function bitmapSource(bitmap) {
  function read(left, top, right, bottom) {
    const [width, height] = [right - left, bottom - top];
    const context = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
    context.fillStyle = 'white';
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, -left, -top);
    const rgba = context.getImageData(0, 0, width, height).data;
    const rgb = new Uint8Array(width * height * 3);
    for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
      rgb[to] = rgba[from];
      rgb[to + 1] = rgba[from + 1];
      rgb[to + 2] = rgba[from + 2];
    }
    return rgb;
  }
  return {width: bitmap.width, height: bitmap.height, read};
}

// ---------------------------------------------------------------------------------------------
// Whole-number reduction: means of blocks, as Pillow's Image.reduce rounds them

const BAND = 1 << 22; // pixels that are read at once

// `cell` says where along a side each of the smaller pixels begins
function cells(length, factor, fromEnd) {
  const count = Math.ceil(length / factor);
  const short = length % factor;
  const starts = [];
  for (let k = 0; k <= count; k++) {
    const start = fromEnd && short ? short + (k - 1) * factor : k * factor;
    starts.push(clamp(start, 0, length));
  }
  return starts;
}

function addCells(sums, rgb, width, columns) { // one row of pixels to one row of sums
  for (let x = 0; x < columns.length - 1; x++) {
    for (let from = columns[x]; from < columns[x + 1]; from++) {
      sums[x * 3] += rgb[(width + from) * 3];
      sums[x * 3 + 1] += rgb[(width + from) * 3 + 1];
      sums[x * 3 + 2] += rgb[(width + from) * 3 + 2];
    }
  }
}

function mean(sum, count) {
  const multiplier = Math.floor(2 ** 24 / count);
  return Math.floor(((sum + (count >> 1)) * multiplier) / 2 ** 24);
}

// The part of `source` inside of `box`, made smaller by (across, down); blocks that are cut off
// lie at the right and at the bottom, or at the `ends` that are said
export function reduce(source, across, down, box, ends = [false, false]) {
  const [left, top, right, bottom] = box;
  const columns = cells(right - left, across, ends[0]);
  const rows = cells(bottom - top, down, ends[1]);
  const [width, height] = [columns.length - 1, rows.length - 1];
  const out = new Uint8Array(width * height * 3);
  const atOnce = Math.max(1, Math.floor(BAND / (right - left) / down)); // rows of blocks
  for (let first = 0; first < height; first += atOnce) {
    const last = Math.min(height, first + atOnce);
    const rgb = source.read(left, top + rows[first], right, top + rows[last]);
    for (let y = first; y < last; y++) {
      const sums = new Float64Array(width * 3);
      for (let from = rows[y]; from < rows[y + 1]; from++) {
        addCells(sums, rgb, (from - rows[first]) * (right - left), columns);
      }
      for (let k = 0; k < sums.length; k++) {
        const x = Math.floor(k / 3);
        const count = (columns[x + 1] - columns[x]) * (rows[y + 1] - rows[y]);
        out[y * width * 3 + k] = mean(sums[k], count);
      }
    }
  }
  return pixelSource(width, height, out);
}

// ---------------------------------------------------------------------------------------------
// Resampling: each new pixel is a weighted mean of the old ones below it, first across, then down

const FILTERS = { // name -> [reach, weight at a distance]
  bilinear: [1, x => Math.max(0, 1 - Math.abs(x))],
  box: [0.5, x => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bicubic: [2, x => {
    const d = Math.abs(x);
    if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
    return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
  }],
};

// For every new pixel along a side: [first old pixel, weights that sum to 1]
function weightsOf(oldLength, start, end, newLength, filter) {
  const [reach, weight] = FILTERS[filter];
  [start, end] = [Math.fround(start), Math.fround(end)]; // Pillow keeps boxes in single precision
  const scale = Math.fround(end - start) / newLength;
  const stretch = Math.max(scale, 1);
  const result = [];
  for (let k = 0; k < newLength; k++) {
    const centre = start + (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach * stretch + 0.5));
    const last = Math.min(oldLength, Math.trunc(centre + reach * stretch + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(weight((x - centre + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    result.push([first, weights.map(w => (sum === 0 ? w : w / sum))]);
  }
  return result;
}

// Pillow computes in whole numbers, with 22 bits behind the point
const ONE = 1 << 22;

function wholeWeights(weights) {
  return weights.map(([first, w]) => [first, w.map(v => Math.trunc(v * ONE + (v < 0 ? -0.5 : 0.5)))]);
}

// Values on a grid, `step` apart along the side and `pitch` from line to line, to new ones
function resampleLines(from, to, weights, lines, [step, pitch], [newStep, newPitch]) {
  weights.forEach(([first, w], k) => {
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = ONE >> 1;
        let at = line * pitch + first * step + channel;
        for (let i = 0; i < w.length; i++, at += step) sum += from[at] * w[i];
        to[line * newPitch + k * newStep + channel] = clamp(sum >> 22, 0, 255);
      }
    }
  });
}

// Pixels of `source` inside of a box with fractions, as `width` x `height` RGB bytes
function resample(source, box, [width, height]) {
  const across = wholeWeights(weightsOf(source.width, box[0], box[2], width, 'bilinear'));
  const down = wholeWeights(weightsOf(source.height, box[1], box[3], height, 'bilinear'));
  const reachX = [across[0][0], across.at(-1)[0] + across.at(-1)[1].length];
  const reachY = [down[0][0], down.at(-1)[0] + down.at(-1)[1].length];
  const oldWidth = reachX[1] - reachX[0];
  const rows = reachY[1] - reachY[0];
  const pixels = source.read(reachX[0], reachY[0], reachX[1], reachY[1]);

  const narrow = new Uint8Array(width * rows * 3);
  const shiftedX = across.map(([first, w]) => [first - reachX[0], w]);
  resampleLines(pixels, narrow, shiftedX, rows, [3, oldWidth * 3], [3, width * 3]);
  const out = new Uint8Array(width * height * 3);
  const shiftedY = down.map(([first, w]) => [first - reachY[0], w]);
  resampleLines(narrow, out, shiftedY, width, [width * 3, 3], [width * 3, 3]);
  return out;
}

// Pillow's resize(size, BILINEAR, box, reducing_gap=3): large steps down begin with means of blocks
export function resize(source, box, size) {
  const [spareX, spareY] = [(box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]];
  const across = Math.max(1, Math.trunc(spareX / 3));
  const down = Math.max(1, Math.trunc(spareY / 3));
  if (across === 1 && down === 1) return resample(source, box, size);
  const around = [
    Math.max(0, Math.trunc(box[0] - spareX / 2)),
    Math.max(0, Math.trunc(box[1] - spareY / 2)),
    Math.min(source.width, Math.ceil(box[2] + spareX / 2)),
    Math.min(source.height, Math.ceil(box[3] + spareY / 2)),
  ];
  const smaller = reduce(source, across, down, around);
  const inside = [
    (box[0] - around[0]) / across,
    (box[1] - around[1]) / down,
    (box[2] - around[0]) / across,
    (box[3] - around[1]) / down,
  ];
  return resample(smaller, inside, size);
}

// ---------------------------------------------------------------------------------------------
// Which part of a photo a network sees: [box of the photo, [width, height] that it fills]

export function usedPart(width, height, [rows, columns], fit) {
  const [across, down] = [columns / width, rows / height];
  if (fit === 'squash') return [[0, 0, width, height], [columns, rows]];
  if (fit === 'pad') {
    const scale = Math.min(across, down);
    const filled = [
      Math.min(columns, Math.max(1, roundEven(width * scale))),
      Math.min(rows, Math.max(1, roundEven(height * scale))),
    ];
    return [[0, 0, width, height], filled];
  }
  const scale = Math.max(across, down);
  const dx = (width - columns / scale) / 2;
  const dy = (height - rows / scale) / 2;
  const box = [Math.max(dx, 0), Math.max(dy, 0), Math.min(width - dx, width), Math.min(height - dy, height)];
  return [box, [columns, rows]];
}

// Pillow has large JPEG files decoded at a half, a quarter or an eighth, which gives the means of
// blocks. `turned`: which ends of the upright photo are the ends of what the file holds.
function drafted(source, size, fit, turned) {
  const [[left, top, right, bottom], [columns, rows]] = usedPart(source.width, source.height, size, fit);
  const spare = Math.min((right - left) / columns, (bottom - top) / rows);
  const smaller = Math.max(1, ...[2, 4, 8].filter(k => 2 * k <= spare));
  if (smaller === 1) return source;
  return reduce(source, smaller, smaller, [0, 0, source.width, source.height], turned);
}

// The pixels that a network for photos takes: bytes (height, width, channels)
export function photoPixels(source, {size, fit = 'crop', colours = 'RGB'}, file = {}) {
  if (file.drafts) source = drafted(source, size, fit, file.turned);
  const [part, filled] = usedPart(source.width, source.height, size, fit);
  const seen = resize(source, part, filled);
  const [height, width] = size;
  const framed = new Uint8Array(width * height * 3).fill(WHITE[0]);
  const left = Math.floor((width - filled[0]) / 2);
  const top = Math.floor((height - filled[1]) / 2);
  for (let y = 0; y < filled[1]; y++) {
    const row = seen.subarray(y * filled[0] * 3, (y + 1) * filled[0] * 3);
    framed.set(row, ((top + y) * width + left) * 3);
  }
  return colours === 'grey' ? greyPixels(framed) : framed;
}

// Pillow's convert('L')
function grey(r, g, b) {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

function greyPixels(rgb) {
  const out = new Uint8Array(rgb.length / 3);
  for (let k = 0; k < out.length; k++) out[k] = grey(rgb[k * 3], rgb[k * 3 + 1], rgb[k * 3 + 2]);
  return out;
}

// ---------------------------------------------------------------------------------------------
// A photo of one garment as Fashion-MNIST has it: 28 x 28, grey, bright on black
// (fashion_lab.labs.fashion_mnist.prepare_photo)

const SIDE = 28;
const MOST_PIXELS = 1 << 22; // larger photos are made smaller first

function middle(sorted) {
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function percentile(sorted, percent) {
  const place = (sorted.length - 1) * percent / 100;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

function rimPixels(width, height) { // positions; those in corners come twice, as in Python
  const rim = Math.max(1, roundEven(0.03 * Math.min(width, height)));
  const places = [];
  function add(left, top, right, bottom) {
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) places.push(y * width + x);
    }
  }
  add(0, 0, width, rim);
  add(0, height - rim, width, height);
  add(0, 0, rim, height);
  add(width - rim, 0, width, height);
  return places;
}

function distance(rgb, k, ground) {
  return Math.max(
    Math.abs(rgb[k * 3] - ground[0]),
    Math.abs(rgb[k * 3 + 1] - ground[1]),
    Math.abs(rgb[k * 3 + 2] - ground[2]),
  );
}

// Pixels whose four neighbours are all set (`all`), or of which one is set; outside is not set
function neighbours(mask, width, height, all) {
  const out = new Uint8Array(mask.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const k = y * width + x;
      const near = mask[k] + (x > 0 && mask[k - 1]) + (x < width - 1 && mask[k + 1])
        + (y > 0 && mask[k - width]) + (y < height - 1 && mask[k + width]);
      out[k] = all ? near === 5 : near > 0;
    }
  }
  return out;
}

// Connected parts of a mask: [{size, top, left, bottom, right}]
function partsOf(mask, width, height) {
  const left = mask.slice();
  const stack = new Int32Array(mask.length);
  const parts = [];
  for (let start = 0; start < mask.length; start++) {
    if (!left[start]) continue;
    const part = {size: 0, top: height, left: width, bottom: 0, right: 0};
    let n = 0;
    stack[n++] = start;
    left[start] = 0;
    while (n) {
      const k = stack[--n];
      const [y, x] = [Math.floor(k / width), k % width];
      part.size++;
      part.top = Math.min(part.top, y);
      part.left = Math.min(part.left, x);
      part.bottom = Math.max(part.bottom, y + 1);
      part.right = Math.max(part.right, x + 1);
      const near = [x > 0 && k - 1, x < width - 1 && k + 1, y > 0 && k - width, y < height - 1 && k + width];
      for (const to of near) {
        if (to === false || !left[to]) continue;
        left[to] = 0;
        stack[n++] = to;
      }
    }
    parts.push(part);
  }
  return parts;
}

function garmentBox(far, width, height, threshold) {
  let mask = Uint8Array.from(far, v => v > threshold);
  if (Math.min(width, height) > 56) {
    mask = neighbours(neighbours(mask, width, height, true), width, height, false);
  }
  const parts = partsOf(mask, width, height);
  if (!parts.length) return [0, 0, width, height];
  const largest = Math.max(...parts.map(p => p.size));
  const kept = parts.filter(p => p.size >= 0.1 * largest); // a pair of shoes is two parts
  return [
    Math.min(...kept.map(p => p.left)),
    Math.min(...kept.map(p => p.top)),
    Math.max(...kept.map(p => p.right)),
    Math.max(...kept.map(p => p.bottom)),
  ];
}

// How much darker (or brighter) than the background each pixel of a box is, 0 to 255
function brightness(rgb, width, [left, top, right, bottom], far, ground, light) {
  const level = grey(...ground.map(Math.trunc));
  const out = new Float32Array((right - left) * (bottom - top));
  let k = 0;
  let most = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++, k++) {
      const at = y * width + x;
      const value = grey(rgb[at * 3], rgb[at * 3 + 1], rgb[at * 3 + 2]);
      out[k] = Math.max(0, light ? level - value : value - level);
      if (light && far[at] > 24) out[k] = Math.max(out[k], 24);
      most = Math.max(most, out[k]);
    }
  }
  return most < 128 ? out.map(v => v * (255 / Math.max(most, 1))) : out;
}

// The longer side becomes 28 pixels, in the middle of black
function shrink(bright, width, height) {
  const longer = Math.max(width, height);
  const newWidth = Math.max(1, roundEven(SIDE * width / longer));
  const newHeight = Math.max(1, roundEven(SIDE * height / longer));
  const filter = longer > SIDE ? 'box' : 'bicubic';
  const narrow = new Float32Array(newWidth * height);
  weightsOf(width, 0, width, newWidth, filter).forEach(([first, w], k) => {
    for (let y = 0; y < height; y++) {
      narrow[y * newWidth + k] = w.reduce((sum, v, i) => sum + v * bright[y * width + first + i], 0);
    }
  });
  const out = new Uint8Array(SIDE * SIDE);
  const [top, left] = [Math.floor((SIDE - newHeight) / 2), Math.floor((SIDE - newWidth) / 2)];
  weightsOf(height, 0, height, newHeight, filter).forEach(([first, w], k) => {
    for (let x = 0; x < newWidth; x++) {
      const value = w.reduce((sum, v, i) => sum + v * narrow[(first + i) * newWidth + x], 0);
      out[(top + k) * SIDE + left + x] = roundEven(clamp(Math.fround(value), 0, 255));
    }
  });
  return out;
}

export function garmentPixels(source) {
  const smaller = Math.ceil(Math.sqrt(source.width * source.height / MOST_PIXELS));
  const whole = [0, 0, source.width, source.height];
  if (smaller > 1) source = reduce(source, smaller, smaller, whole);
  const {width, height} = source;
  const rgb = source.read(0, 0, width, height);

  // the background's colour is the median of the rim
  const rim = rimPixels(width, height);
  const ground = [0, 1, 2].map(c => middle(Float32Array.from(rim, k => rgb[k * 3 + c]).sort()));
  const light = (ground[0] + ground[1] + ground[2]) / 3 > 127;

  // the garment differs from it more than the rim does
  const far = Float32Array.from({length: width * height}, (_, k) => distance(rgb, k, ground));
  const spread = percentile(Float32Array.from(rim, k => far[k]).sort(), 90);
  const box = garmentBox(far, width, height, Math.max(24, 2 * spread));
  const bright = brightness(rgb, width, box, far, ground, light);
  return shrink(bright, box[2] - box[0], box[3] - box[1]);
}

// ---------------------------------------------------------------------------------------------
// Files

function ascii(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

// The orientation that a block of EXIF data notes, 1 to 8
function orientationIn(bytes, start) {
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, bytes.length - start);
  const little = ascii(bytes, start, 2) === 'II';
  try {
    const first = view.getUint32(4, little);
    const entries = view.getUint16(first, little);
    for (let k = 0; k < entries; k++) {
      const at = first + 2 + 12 * k;
      if (view.getUint16(at, little) !== 0x0112) continue;
      const value = view.getUint16(at + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // cut off: it says nothing
  }
  return 1;
}

// What a JPEG file says of itself: {components, orientation}; null for other files
export function jpegFacts(bytes) {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  const facts = {components: 3, orientation: 1};
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker === 0xff) { at++; continue; }
    if (marker === 0xda) break;
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) facts.components = bytes[at + 9];
    const isExif = marker === 0xe1 && ascii(bytes, at + 4, 4) === 'Exif';
    if (isExif) facts.orientation = orientationIn(bytes, at + 10);
    at += 2 + bytes[at + 2] * 256 + bytes[at + 3];
  }
  return facts;
}

// Whether the upright photo's left and top are where the file's blocks end
function turnedEnds(orientation) {
  return [[2, 3, 6, 7].includes(orientation), [3, 4, 7, 8].includes(orientation)];
}

export class UnreadablePicture extends Error {}

// Why a browser could not read a file, as a sentence
function whyNot(name, bytes) {
  const kind = ascii(bytes, 4, 8);
  if (!bytes.length) return `${name} is empty: choose a photo.`;
  if (/\.hei[cf]$/i.test(name) || /^ftyp(hei[cxms]|hev[cx]|mif1|msf1)/.test(kind)) {
    return `${name} is a HEIC photo, which this browser cannot read: export it as JPEG, or set the `
      + 'camera to “most compatible”.';
  }
  const start = ascii(bytes, 0, 4);
  if (start.startsWith('II*') || start.startsWith('MM\0*')) {
    return `${name} is a TIFF file, which browsers cannot read: export it as JPEG or PNG.`;
  }
  const known = start.startsWith('\xff\xd8') || start === '\x89PNG' || start === 'GIF8' || start === 'RIFF';
  if (known) return `${name} is damaged: the browser cannot read it to its end.`;
  const text = bytes.subarray(0, 512).every(b => b >= 32 || [9, 10, 12, 13].includes(b));
  return text ? `${name} holds text, and is no photo: choose a JPEG, PNG or WebP file.`
    : `${name} is no photo that this browser can read: choose a JPEG, PNG or WebP file.`;
}

// A file that the visitor gave, decoded: {source, drafts, turned}
export async function readPicture(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]), {colorSpaceConversion: 'none'});
  } catch (error) {
    throw new UnreadablePicture(whyNot(file.name ?? 'the picture', bytes));
  }
  const jpeg = jpegFacts(bytes);
  return {
    source: bitmapSource(bitmap),
    drafts: jpeg !== null && jpeg.components !== 4,
    turned: turnedEnds(jpeg?.orientation ?? 1),
    close: () => bitmap.close(),
  };
}

// The pixels of a picture for a network, as its facts say
export function networkPixels(picture, facts) {
  const {preparation, input} = facts;
  if (!preparation.size) return garmentPixels(picture.source);
  const wanted = {size: preparation.size, fit: preparation.fit, colours: input.colours};
  return photoPixels(picture.source, wanted, picture);
}
