// Looks at the pages of tests/page/write_results.py in a browser, as somebody would to whom they were sent.
//
//     node tests/page/check.mjs DIR          # exit status 1, and a line for each, where something is wrong
//
// Screenshots are written into DIR.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { launch } from './browser.mjs';

const folder = resolve(process.argv[2]);
const expected = JSON.parse(readFileSync(`${folder}/expected.json`, 'utf8'));
const wide = { viewport: { width: 1360, height: 800 } };
let wrong = 0;

function check(ok, what, ...said) {
  console.log(`${ok ? 'ok   ' : 'WRONG'} ${what}`, ...said);
  wrong += !ok;
}

const numbers = (name) => new Float32Array(new Uint8Array(readFileSync(`${folder}/expected/${name}`)).buffer);

// Opens a page; whatever it asks for beside itself, and every error, is counted as wrong.
async function open(browser, kind, options = wide) {
  const context = await browser.newContext({ colorScheme: 'light', ...options });
  const page = await context.newPage();
  const url = pathToFileURL(`${folder}/${kind}/result.html`).href;
  page.errors = [];
  page.on('console', (message) => message.type() === 'error' && page.errors.push(message.text()));
  page.on('pageerror', (error) => page.errors.push(error.message));
  page.on('dialog', (dialog) => page.errors.push(`a dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on('request', (request) => request.url() !== url && page.errors.push(`a request: ${request.url()}`));
  await page.goto(url);
  await page.waitForFunction(() => window.result?.views.context, null, { timeout: 30000 });
  await settled(page);
  return page;
}

// Waits until a picture that was asked for is drawn and the space has come to rest.
const settled = (page) =>
  page.waitForFunction(async () => {
    await new Promise((done) => setTimeout(done, 60));
    const { views, state } = window.result;
    return state.shown === state.step && !views.gliding && !views.waiting;
  });

// Returns how many pixels of a canvas are drawn on, and a number that another picture would hardly have.
const look = async (page, id) => {
  await settled(page);
  return page.evaluate((id) => {
    window.result.views.draw();
    const canvas = document.getElementById(id);
    let copy = canvas.getContext('2d'); // null of the canvases of WebGL
    if (!copy) {
      copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
      copy.drawImage(canvas, 0, 0);
    }
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    let [drawn, sum] = [0, 0];
    for (let i = 0; i < data.length; i += 4) {
      drawn += data[i + 3] > 0;
      if (data[i + 3]) sum = (Math.imul(sum, 31) + i + data[i] + 256 * data[i + 1] + 65536 * data[i + 2]) | 0;
    }
    return { drawn, sum };
  }, id);
};

// Checks that something changes a canvas.
async function changes(page, id, what, act) {
  const before = await look(page, id);
  await act();
  const after = await look(page, id);
  check(before.sum !== after.sum, `${what} changes #${id}`);
}

// Returns the worst contrast of texts to what is behind them, of those colours that the page uses.
const contrast = (page) =>
  page.evaluate(() => {
    const light = (name) => {
      const probe = document.body.appendChild(document.createElement('i'));
      probe.style.color = name;
      const parts = getComputedStyle(probe)
        .color.match(/[\d.]+/g)
        .slice(0, 3)
        .map((part) => part / 255);
      probe.remove();
      const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pairs = ['page', 'card', 'stage', 'warn']
      .flatMap((back) => [
        ['ink', back],
        ['soft', back],
      ])
      .slice(0, -1);
    const ratios = pairs.map(([text, back]) => {
      const [low, high] = [light(`var(--${text})`), light(`var(--${back})`)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    });
    const pressed = getComputedStyle(document.querySelector('[aria-pressed=true]'));
    const [low, high] = [light(pressed.color), light(pressed.backgroundColor)].sort((a, b) => a - b);
    return Math.min(...ratios, (high + 0.05) / (low + 0.05));
  });

const unnamed = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('button, input, select, canvas, dialog')]
      .filter((one) => {
        const label =
          one.ariaLabel || one.labels?.[0]?.textContent || one.textContent || one.getAttribute('aria-labelledby');
        return !label?.trim();
      })
      .map((one) => one.outerHTML.slice(0, 80)),
  );

// ---- what the page computes

async function checkBodies(page) {
  const worst = { joints: 0, vertices: 0, sum: 0, count: 0 };
  for (const { person, frame, name } of expected.posed) {
    const found = await page.evaluate(
      ([frame, person]) => ['joints', 'vertices'].map((kind) => Array.from(window.result[kind](frame, person))),
      [frame, person],
    );
    for (const [k, kind] of ['joints', 'vertices'].entries()) {
      const truth = numbers(`${kind}_${name}.f4`);
      if (truth.length !== found[k].length) throw new Error(`${kind}: ${found[k].length} numbers, not ${truth.length}`);
      for (let i = 0; i < truth.length; i += 3) {
        const mm = 1000 * Math.hypot(...[0, 1, 2].map((axis) => found[k][i + axis] - truth[i + axis]));
        worst[kind] = Math.max(worst[kind], mm);
        if (kind === 'vertices') [worst.sum, worst.count] = [worst.sum + mm, worst.count + 1];
      }
    }
  }
  const said =
    `joints off by ${worst.joints.toFixed(3)} mm at most, vertices by ${(worst.sum / worst.count).toFixed(3)} mm on ` +
    `average and ${worst.vertices.toFixed(3)} mm at most, of ${expected.posed.length} bodies`;
  check(worst.joints < 1 && worst.vertices < 2, 'bodies are where smpl.skin has them:', said);
}

async function checkSilhouette(page, kind) {
  const truth = readFileSync(`${folder}/expected/silhouette_${kind}.u8`);
  const found = await page.evaluate((size) => window.result.silhouette(size), expected.size);
  let [both, either] = [0, 0];
  truth.forEach((covered, i) => {
    both += covered && found[i];
    either += covered || found[i];
  });
  const iou = both / either;
  check(iou > 0.97, `${kind}: meshes over the photo cover what the overlay of tools.predict does: IoU`, iou.toFixed(4));
}

// ---- what somebody does

async function checkSpace(page) {
  const area = await page.locator('#space').boundingBox();
  const [x, y] = [area.x + area.width / 2, area.y + area.height / 2];
  check((await look(page, 'space')).drawn > 5000, 'the space is not empty');
  await changes(page, 'space', 'dragging the mouse', async () => {
    await page.mouse.move(x, y);
    await page.mouse.down();
    await page.mouse.move(x + 120, y + 20, { steps: 4 });
    await page.mouse.up();
  });
  await changes(page, 'space', 'the wheel', () => page.mouse.wheel(0, -300));
  await page.focus('#space');
  for (const key of ['ArrowLeft', 'ArrowUp', '+', '-'])
    await changes(page, 'space', key, () => page.keyboard.press(key));
  for (const name of ['front', 'side', 'top', 'camera']) {
    await changes(page, 'space', `looking from the ${name}`, () => page.click(`[data-look=${name}]`));
  }
  await changes(page, 'space', 'turning around a person', () => page.click('#people li:first-child .centre'));
}

async function checkShown(page) {
  await page.evaluate(() => document.activeElement.blur());
  await changes(page, 'marks', 'j', () => page.keyboard.press('j'));
  await changes(page, 'marks', 'b', () => page.keyboard.press('b'));
  await page.screenshot({ path: `${folder}/marks.png` });
  await changes(page, 'drawn', 'm', () => page.keyboard.press('m'));
  await changes(page, 'marks', 'n', () => page.keyboard.press('n'));
  check((await look(page, 'drawn')).drawn + (await look(page, 'marks')).drawn === 0, 'nothing is drawn after n');
  check((await look(page, 'picture')).drawn > 5000, 'the picture is there');
  await changes(page, 'drawn', 'the button Mesh', () => page.click('#mesh-button'));
  for (const canvas of ['drawn', 'space']) {
    await changes(page, canvas, 'hiding a person by 1', () => page.keyboard.press('1'));
    await changes(page, canvas, 'showing the person by a click', () => page.click('#people li:first-child .toggle'));
  }
  for (const [key, id] of [
    ['d', 'details'],
    ['?', 'help'],
  ]) {
    await page.keyboard.press(key);
    check(await page.locator(`#${id}`).isVisible(), `${key} opens the ${id}`);
    await page.screenshot({ path: `${folder}/${id}.png` });
    await page.keyboard.press('Escape');
    check(!(await page.locator(`#${id}`).isVisible()), 'Escape closes it');
  }
}

async function checkTheme(page) {
  const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await colour();
  check((await contrast(page)) >= 4.5, 'contrast in light', (await contrast(page)).toFixed(1));
  await changes(page, 'space', 'the button Theme', () => page.click('#theme-button'));
  check((await colour()) !== light, 'the button Theme changes the background');
  check((await contrast(page)) >= 4.5, 'contrast in dark', (await contrast(page)).toFixed(1));
  await page.keyboard.press('t');
  check((await colour()) === light, 't changes it back');
}

async function checkWhole(page) {
  const whole = () => page.evaluate(() => Boolean(document.fullscreenElement));
  await page.keyboard.press('f');
  await page.waitForTimeout(300);
  const turned = await whole();
  await page.keyboard.press('f');
  await page.waitForTimeout(300);
  check(turned && !(await whole()), 'f fills the screen, and again gives it back');
}

// Without WebGL the page says so.
async function checkWithoutGraphics(browser) {
  const page = await (await browser.newContext(wide)).newPage();
  await page.addInitScript(() => {
    const { getContext } = HTMLCanvasElement.prototype;
    HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
      return kind.startsWith('webgl') ? null : getContext.call(this, kind, ...rest);
    };
  });
  await page.goto(pathToFileURL(`${folder}/photo/result.html`).href);
  const said = page.locator('#banner', { hasText: 'draws nothing in 3D' });
  await said.waitFor({ timeout: 10000 }).catch(() => {});
  check(await said.isVisible(), 'without WebGL the page says what to do');
}

async function checkTimeline(page) {
  const step = () => page.evaluate(() => window.result.state.step);
  await page.evaluate(() => document.activeElement.blur());
  for (const canvas of ['space', 'drawn', 'picture']) {
    await changes(page, canvas, 'the next frame', () => page.keyboard.press('ArrowRight'));
  }
  check((await step()) === 3, 'three times → is frame 3');
  await page.keyboard.press('End');
  check((await step()) === 29, 'End is the last frame');
  await page.keyboard.press('Home');
  await page.locator('#frame').fill('12');
  check(
    (await step()) === 12 && (await page.textContent('#clock')).includes('frame 12 · 0.96 s'),
    'the timeline moves to frame 12',
  );
  const absent = await page.evaluate(() => window.result.joints(12, 2));
  check(absent === undefined, 'who is not there is not shown');
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press(' ');
  await page.waitForFunction(() => window.result.state.step !== 12);
  await page.keyboard.press(' ');
  check((await step()) !== 12 && !(await page.evaluate(() => window.result.state.playing)), 'space plays and pauses');
  check((await page.locator('.track .filled').count()) === 1, 'filled frames are marked');
  await page.locator('#frame').fill('16');
  await settled(page);
  await page.screenshot({ path: `${folder}/filled.png` });
}

async function checkTouch(page) {
  const area = await page.locator('#space').boundingBox();
  await page.evaluate(() => document.getElementById('space').scrollIntoView({ block: 'start' }));
  const { x, y } = await page.locator('#space').boundingBox();
  const session = await page.context().newCDPSession(page);
  const touch = (type, ...points) =>
    session.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  const [left, top] = [x + area.width / 2, y + 120];
  await changes(page, 'space', 'a finger', async () => {
    await touch('touchStart', [left, top]);
    for (const far of [20, 50, 80]) await touch('touchMove', [left + far, top + far / 4]);
    await touch('touchEnd');
  });
  await changes(page, 'space', 'two fingers', async () => {
    await touch('touchStart', [left - 30, top], [left + 30, top]);
    for (const far of [40, 60, 80]) await touch('touchMove', [left - far, top], [left + far, top]);
    await touch('touchEnd');
  });
}

async function checkPhotos(page) {
  const named = () => page.textContent('#summary');
  check((await named()).startsWith('1 of 4'), 'the first photo is shown');
  for (const canvas of ['picture', 'space', 'drawn'])
    await changes(page, canvas, 'the next photo', async () => {
      await page.keyboard.press('Home');
      await page.keyboard.press('ArrowRight');
      await page.click('#strip button:nth-child(2)');
      await page.keyboard.press(canvas === 'space' ? 'ArrowLeft' : 'End');
    });
  await page.click('#strip [title="nobody.jpg"]');
  check(
    (await named()).endsWith('nobody was found') && (await look(page, 'picture')).drawn > 5000,
    'a photo of nobody is shown',
  );
  await page.click('#strip button:first-child');
  check((await page.locator('#strip img').count()) === 4, 'there is a strip of photos');
  await page.keyboard.press('d');
  const facts = await page.textContent('#facts');
  check(facts.includes('</script><img src=x onerror=alert(1)>'), 'texts of files are texts');
}

// As it is first shown, before anything was touched: the corner of the stage, where nobody is, is the picture's.
async function checkFirstSight(page, kind) {
  const { x, y } = await page.locator('#stage').boundingBox();
  const side = 40;
  const seen = (await page.screenshot({ clip: { x: x + 2, y: y + 2, width: side, height: side } })).toString('base64');
  const [shown, own] = await page.evaluate(async (seen) => {
    const image = new Image();
    image.src = `data:image/png;base64,${seen}`;
    await image.decode();
    const copy = new OffscreenCanvas(image.width, image.height).getContext('2d');
    copy.drawImage(image, 0, 0);
    const picture = document.getElementById('picture');
    const scale = picture.width / picture.clientWidth;
    const part = Math.round(40 * scale);
    const light = ({ data }) => data.reduce((sum, value, i) => sum + (i % 4 < 3 ? value : 0), 0) / (0.75 * data.length);
    return [
      light(copy.getImageData(0, 0, image.width, image.height)),
      light(picture.getContext('2d').getImageData(2 * scale, 2 * scale, part, part)),
    ];
  }, seen);
  const said = `${shown.toFixed(0)} and ${own.toFixed(0)} of 255`;
  check(own > 40 && Math.abs(shown - own) < 0.1 * own, `${kind}: at first sight the picture is as light as it is:`, said);
}

async function main() {
  const browser = await launch();
  try {
    const photo = await open(browser, 'photo');
    await photo.screenshot({ path: `${folder}/photo.png` });
    await checkFirstSight(photo, 'photo');
    check((await unnamed(photo)).length === 0, 'everything that can be used has a name', await unnamed(photo));
    await photo.keyboard.press('Tab');
    const outline = await photo.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    check(outline === 'solid', 'what has the focus shows it');
    await checkSilhouette(photo, 'photo');
    await checkSpace(photo);
    await checkShown(photo);
    await checkTheme(photo);
    await checkWhole(photo);
    await checkWithoutGraphics(browser);

    const own = await open(browser, 'own_cameras');
    await checkSilhouette(own, 'own_cameras');

    const photos = await open(browser, 'photos');
    await checkPhotos(photos);

    const video = await open(browser, 'video', { ...wide, colorScheme: 'dark' });
    await video.screenshot({ path: `${folder}/video.png` });
    await checkFirstSight(video, 'video');
    await checkBodies(video);
    await checkTimeline(video);

    const narrow = await open(browser, 'video', {
      viewport: { width: 360, height: 740 },
      hasTouch: true,
      deviceScaleFactor: 2,
    });
    await narrow.screenshot({ path: `${folder}/narrow.png` });
    const [inner, outer] = await narrow.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    check(inner <= outer, `nothing is wider than a narrow screen: ${inner} of ${outer} pixels`);
    await checkTouch(narrow);
    await narrow.screenshot({ path: `${folder}/narrow_space.png` });

    for (const [kind, page] of Object.entries({ photo, own, photos, video, narrow })) {
      check(page.errors.length === 0, `${kind}: no error and no request`, page.errors);
    }
  } finally {
    await browser.close();
  }
  console.log(wrong ? `${wrong} checks failed` : `all is well; screenshots are in ${folder}`);
  process.exitCode = wrong ? 1 : 0;
}

await main();
