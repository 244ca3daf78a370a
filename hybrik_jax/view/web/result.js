// The page: which photo or frame is shown, who and what of it, by buttons, keys and touch.

import { read } from 'records';
import { Views } from 'views';

const at = (id) => document.getElementById(id);
const { body, scenes, title } = await read();
const views = startViews();
const state = { scene: null, step: 0, shown: null, playing: false, hidden: new Set(), next: 0, due: 0 };

function startViews() {
  try {
    return new Views({ picture: at('picture'), marks: at('marks'), drawn: at('drawn'), space: at('space') });
  } catch (error) {
    at('banner').textContent =
      `This browser draws nothing in 3D (${error.message}): switch hardware acceleration on, or take another.`;
    throw error;
  }
}

// Returns a new element with a class and texts or elements in it; texts are never read as HTML.
function element(name, { children = [], ...properties } = {}) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// ---- scenes and frames

const steps = () => state.scene.frame_count;
const frameOf = (step) => step * state.scene.frame_step;

async function showScene(number) {
  const scene = scenes[number];
  for (const person of state.scene?.people ?? []) person.forget();
  Object.assign(state, { scene, number, shown: null, hidden: new Set() });
  document.body.classList.toggle('of-video', steps() > 1);
  at('timeline').hidden = steps() === 1;
  at('frame').max = steps() - 1;
  at('summary').textContent = [
    scenes.length > 1 ? `${number + 1} of ${scenes.length}: ${scene.name}` : '',
    scene.summary,
  ]
    .filter(Boolean)
    .join(' · ');
  at('caption').textContent = scene.caption;
  at('banner').textContent = scene.banner;
  at('banner').hidden = !scene.banner;
  for (const [k, button] of [...at('strip').children].entries()) button.setAttribute('aria-current', k === number);
  at('strip').children[number]?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  views.setScene(scene, body);
  listPeople();
  listFacts();
  fit();
  setPlaying(false);
  await showStep(0);
  if (scene === state.scene) views.look('three-quarters', { glide: false });
}

// Shows a step of the timeline, when its picture is decoded: meshes and picture change together.
async function showStep(step) {
  const { scene } = state;
  state.step = step;
  at('frame').value = step;
  const frame = frameOf(step);
  const seconds = frame / state.scene.frame_rate;
  at('clock').textContent = `frame ${frame} · ${seconds.toFixed(2)} s`;
  at('frame').setAttribute('aria-valuetext', `frame ${frame}, ${seconds.toFixed(2)} seconds`);
  const left = `${(100 * step) / Math.max(1, steps() - 1)}%`;
  for (const head of document.querySelectorAll('.track b')) head.style.left = left;
  const image = await scene.pictures.get(step).catch(() => null);
  if (scene !== state.scene || step !== state.step) return; // something else was asked for meanwhile
  at('missing').hidden = Boolean(image);
  views.setFrame(frame, state.hidden);
  views.setPicture(image);
  state.shown = step;
}

function setPlaying(playing) {
  state.playing = playing && steps() > 1;
  at('play-button').classList.toggle('playing', state.playing);
  at('play-button').setAttribute('aria-label', state.playing ? 'Pause' : 'Play');
  cancelAnimationFrame(state.next);
  state.due = performance.now();
  if (state.playing) state.next = requestAnimationFrame(play);
}

// Shows the frame that is due `now`, ms; state.due is when the one that is shown was.
async function play(now) {
  const each = (1000 * state.scene.frame_step) / state.scene.frame_rate / Number(at('speed').value);
  const on = Math.floor((now - state.due) / each);
  if (on > 0) {
    state.due += on * each;
    await showStep((state.step + on) % steps());
  }
  cancelAnimationFrame(state.next); // somebody may have paused and gone on meanwhile
  if (state.playing) state.next = requestAnimationFrame(play);
}

function move(by) {
  if (steps() > 1) {
    setPlaying(false);
    showStep(Math.min(steps() - 1, Math.max(0, state.step + by)));
  } else showScene(Math.min(scenes.length - 1, Math.max(0, state.number + (Number.isFinite(by) ? Math.sign(by) : by))));
}

// ---- people

function listPeople() {
  const { scene } = state;
  at('people').replaceChildren(
    ...scene.people.map((person) => {
      const toggle = element('button', {
        className: 'toggle',
        title: `Hide or show${person.number < 9 ? ` (${person.number + 1})` : ''}`,
        children: [
          element('span', { className: 'dot' }),
          element('span', { className: 'number', textContent: person.number + 1 }),
          element('span', { className: 'name', textContent: person.name }),
        ],
        onclick: () => hide(person),
      });
      toggle.setAttribute('aria-pressed', 'true');
      const centre = element('button', {
        className: 'centre',
        title: 'Turn around this person',
        onclick: () => views.centre(person),
      });
      centre.append(at('centre-icon').content.cloneNode(true));
      centre.setAttribute('aria-label', `Turn around ${person.name}`);
      const item = element('li', { children: [element('div', { className: 'who', children: [toggle, centre] })] });
      item.style.setProperty('--own', person.colour);
      if (steps() > 1) item.append(track(person));
      return item;
    }),
  );
}

// Returns the bar of the frames that a person is in.
function track(person) {
  const { frame_step: step } = state.scene;
  const whole = Math.max(1, steps() - 1) * step;
  const runs = person.runs(step);
  const bars = runs.map(({ from, to, filled }) => {
    const bar = element('i', {
      className: filled ? 'filled' : '',
      title: `frames ${from} to ${to}${filled ? ', filled: nobody saw the person' : ''}`,
    });
    const end = Math.min(whole, to + step);
    Object.assign(bar.style, { left: `${(100 * from) / whole}%`, width: `max(3px, ${(100 * (end - from)) / whole}%)` });
    return bar;
  });
  const bar = element('div', { className: 'track', children: [...bars, element('b')] });
  const named = runs.map(({ from, to, filled }) => `${from} to ${to}${filled ? ' filled' : ''}`);
  bar.setAttribute('role', 'img');
  bar.setAttribute('aria-label', `${person.name} in frames ${named.join(', ')}`);
  return bar;
}

function hide(person) {
  if (!state.hidden.delete(person.number)) state.hidden.add(person.number);
  const toggle = at('people').children[person.number].querySelector('.toggle');
  toggle.setAttribute('aria-pressed', !state.hidden.has(person.number));
  views.setFrame(frameOf(state.step), state.hidden);
}

// ---- details

function listFacts() {
  const { scene } = state;
  const table = (facts) =>
    element('dl', {
      children: facts.flatMap(([name, text]) => [
        element('dt', { textContent: name }),
        element('dd', { textContent: text }),
      ]),
    });
  const list = (texts) =>
    texts.length ? [element('ul', { children: texts.map((text) => element('li', { textContent: text })) })] : [];
  const people = scene.people.flatMap((person) => {
    const heading = element('h3', { children: [element('span', { className: 'dot' }), person.name] });
    heading.style.setProperty('--own', person.colour);
    return [heading, table(person.facts), ...list(person.warnings)];
  });
  at('facts').replaceChildren(...list(scene.warnings), table(scene.facts), ...people);
}

// ---- what is shown

function show(what) {
  const { shown } = views;
  if (what === 'nothing') shown.mesh = shown.joints = shown.boxes = false;
  else shown[what] = !shown[what];
  for (const one of ['mesh', 'joints', 'boxes']) at(`${one}-button`).setAttribute('aria-pressed', shown[one]);
  views.redraw();
}

function setOpacity() {
  at('drawn').style.opacity = at('opacity').value / 100;
}

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
};

function turnTheme() {
  document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
  views.setGrid();
}

function turnWhole() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => {});
}

function turnDialog(name) {
  if (at(name).open) at(name).close();
  else at(name).showModal();
}

// Fits the picture into its place.
function fit() {
  const { clientWidth, clientHeight } = at('stage').parentElement;
  const [width, height] = state.scene.size;
  const scale = Math.min(clientWidth / width, clientHeight / height);
  at('stage').style.width = `${width * scale}px`;
  at('stage').style.height = `${height * scale}px`;
  views.resize();
}

// ---- buttons, keys, touch

for (const what of ['mesh', 'joints', 'boxes', 'nothing']) at(`${what}-button`).onclick = () => show(what);
for (const button of document.querySelectorAll('[data-look]')) button.onclick = () => views.look(button.dataset.look);
at('theme-button').onclick = turnTheme;
at('whole-button').onclick = turnWhole;
for (const name of ['details', 'help']) {
  at(`${name}-button`).onclick = () => turnDialog(name);
  at(name).onclick = (event) => event.target === at(name) && at(name).close(); // beside it
}
at('play-button').onclick = () => setPlaying(!state.playing);
at('frame').oninput = () => {
  setPlaying(false);
  showStep(Number(at('frame').value));
};
at('opacity').oninput = setOpacity;
matchMedia('(prefers-color-scheme: dark)').onchange = () => views.setGrid();
new ResizeObserver(fit).observe(at('stage').parentElement);
new ResizeObserver(() => views.resize()).observe(at('space'));

const KEYS = {
  ' ': () => setPlaying(!state.playing),
  ArrowLeft: (event) => move(event.shiftKey ? -10 : -1),
  ArrowRight: (event) => move(event.shiftKey ? 10 : 1),
  Home: () => move(-Infinity),
  End: () => move(Infinity),
  m: () => show('mesh'),
  j: () => show('joints'),
  b: () => show('boxes'),
  n: () => show('nothing'),
  t: turnTheme,
  d: () => turnDialog('details'),
  f: turnWhole,
  '?': () => turnDialog('help'),
};

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target, key, code } = event;
  const digit = code.match(/^(?:Digit|Numpad)([1-9])$/);
  const opened = document.querySelector('dialog[open]');
  const own =
    target.matches('select') ||
    (target.matches('input') && /^(Arrow|Home|End)/.test(key)) ||
    (target.matches('button') && key === ' ');
  if (own || (opened && key !== '?' && key !== 'd')) return;
  const person = digit && state.scene.people[Number(digit[1]) - 1];
  if (target === at('space') && views.key(key)) event.preventDefault();
  else if (person) {
    if (event.shiftKey) views.centre(person);
    else hide(person);
    event.preventDefault();
  } else if (KEYS[key]) {
    KEYS[key](event);
    event.preventDefault();
  }
});

// ---- start

if (scenes.length > 1) {
  at('strip').hidden = false;
  at('strip').append(
    ...scenes.map((scene, number) => {
      const image = element('img', { alt: '', loading: 'lazy', src: `data:image/jpeg;base64,${scene.thumbnail}` });
      return element('button', { title: scene.name, children: [image, scene.name], onclick: () => showScene(number) });
    }),
  );
}
setOpacity();
showScene(0);

// For whoever looks from outside: what the page computes, metres, camera frame.
window.result = {
  title,
  views,
  state,
  vertices: (frame, person) => state.scene.people[person].at(frame)?.vertices,
  joints: (frame, person) => state.scene.people[person].at(frame)?.joints,
  // Whether each pixel of the picture, width x height of them, is covered by somebody's mesh.
  silhouette([width, height] = state.scene.size) {
    const renderer = views.overPicture;
    renderer.setPixelRatio(1);
    renderer.setSize(width, height, false);
    views.drawOverPicture(true);
    const copy = new OffscreenCanvas(width, height).getContext('2d');
    copy.drawImage(renderer.domElement, 0, 0);
    const { data } = copy.getImageData(0, 0, width, height);
    views.resize();
    return Array.from({ length: width * height }, (_, i) => data[4 * i + 3] >= 128);
  },
};
