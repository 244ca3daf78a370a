// Starts a headless Chromium: the one that CHROMIUM names, one that is installed, else that of npm's @sparticuz/chromium.

import { existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const FOLDER = fileURLToPath(new URL('node_modules/.chromium', import.meta.url));
const PACKED = new URL('node_modules/@sparticuz/chromium/', import.meta.url);
const INSTALLED = ['chromium', 'chromium-browser', 'google-chrome'].map((name) => `/usr/bin/${name}`);
const ARGUMENTS = [
  '--use-angle=swiftshader', // WebGL without a graphics card
  '--enable-unsafe-swiftshader',
  '--disable-background-networking',
];

// Returns the path of a browser, and what its environment needs.
async function find() {
  const installed = [process.env.CHROMIUM, ...INSTALLED].find((path) => path && existsSync(path));
  if (installed) return { executablePath: installed, env: process.env };
  mkdirSync(FOLDER, { recursive: true });
  process.env.TMPDIR = FOLDER; // where the package unpacks itself
  try {
    const { default: packed } = await import('@sparticuz/chromium');
    const { inflate } = await import(new URL('build/esm/lambdafs.js', PACKED));
    const executablePath = await packed.executablePath();
    await inflate(fileURLToPath(new URL('bin/al2023.tar.br', PACKED))); // libraries that a server may lack
    const libraries = [`${FOLDER}/al2023/lib`, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
    return { executablePath, env: { ...process.env, LD_LIBRARY_PATH: libraries } };
  } catch (error) {
    throw new Error(
      `There is no browser to test with: install chromium, or name one as CHROMIUM=PATH (${error.message}).`,
    );
  }
}

export async function launch() {
  const root = process.getuid?.() === 0 ? ['--no-sandbox'] : []; // Chromium has no sandbox for root
  return chromium.launch({ ...(await find()), args: [...ARGUMENTS, ...root] });
}
