// What the page holds: photos or a video, everybody's motion, the body model. Written by hybrik_jax/view/result.py.

import { Body } from 'body';

const QUATERNION_UNIT = 32767; // quaternions are stored as 16-bit integers
const TYPES = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint32: Uint32Array,
  float32: Float32Array,
};
const MOST_DECODED = 48; // pictures of a video that are kept decoded
const AHEAD = 6; // pictures that are decoded before they are due

// Returns { title, body, scenes } of the elements #content (JSON) and #arrays (base64 of gzip).
export async function read() {
  const content = JSON.parse(document.getElementById('content').textContent);
  const packed = bytesOf(document.getElementById('arrays').textContent);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const buffer = await new Response(stream).arrayBuffer();
  const array = ({ type, at, count }) => new TYPES[type](buffer, at, count);
  const table = ({ values, scales }) => ({ values: array(values), scales: array(scales) });
  const { shape, pose, parents, ...plain } = content.body;
  const arrays = Object.fromEntries(Object.entries(plain).map(([name, one]) => [name, array(one)]));
  const body = new Body({ ...arrays, shape: table(shape), pose: table(pose), parents });
  const scenes = content.scenes.map((scene) => ({
    ...scene,
    pictures: new Pictures(scene.pictures),
    people: scene.people.map((person, number) => new Track(person, number, array, body)),
  }));
  return { ...content, body, scenes };
}

// One person of a photo or video.
class Track {
  constructor(person, number, array, body) {
    Object.assign(this, person, { number, body });
    for (const name of ['frames', 'filled', 'quaternions', 'translation_m']) this[name] = array(person[name]);
    this.rows = new Map(Array.from(this.frames, (frame, row) => [frame, row]));
  }

  // Returns { vertices, joints, filled } in a frame, camera frame, metres; null where the person is not there.
  at(frame) {
    const row = this.rows.get(frame);
    if (row === undefined) return null;
    if (this.last?.frame !== frame) {
      this.rest ??= this.body.rest(this.betas);
      const quaternions = Float64Array.from(
        this.quaternions.subarray(row * 96, (row + 1) * 96),
        (q) => q / QUATERNION_UNIT,
      );
      const translation = this.translation_m.subarray(row * 3, (row + 1) * 3);
      this.last = { frame, filled: this.filled[row] > 0, ...this.body.skin(this.rest, quaternions, translation) };
    }
    return this.last;
  }

  // Gives the memory of its meshes back.
  forget() {
    this.rest = this.last = undefined;
  }

  // Returns { from, to, filled } of each run of frames that follow each other in steps of `step`.
  runs(step) {
    const runs = [];
    this.frames.forEach((frame, row) => {
      const last = runs.at(-1);
      const filled = this.filled[row] > 0;
      if (last && last.filled === filled && frame === last.to + step) last.to = frame;
      else runs.push({ from: frame, to: frame, filled });
    });
    return runs;
  }
}

// The pictures of a scene, JPEG files, decoded when they are wanted and forgotten when many are.
class Pictures {
  constructor(files) {
    this.files = files;
    this.decoded = new Map();
  }

  // Returns the picture as an image element, or null where there is none.
  async get(number) {
    for (let k = number + 1; k <= number + AHEAD; k++) this.load(k)?.catch(() => {});
    return (await this.load(number)) ?? null;
  }

  load(number) {
    if (!this.files[number]) return null;
    const found = this.decoded.get(number) ?? this.decode(number);
    this.decoded.delete(number); // and to the end: the first is the one that was not wanted for longest
    this.decoded.set(number, found);
    if (this.decoded.size > MOST_DECODED) this.decoded.delete(this.decoded.keys().next().value);
    return found;
  }

  async decode(number) {
    const image = new Image();
    image.src = `data:image/jpeg;base64,${this.files[number]}`;
    await image.decode();
    return image;
  }
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
