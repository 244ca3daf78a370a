// Builds hybrik_jax/view/web/three.min.js, the parts of three.js that the page of results uses, and the licence beside it.
//
//     npm install --prefix tests/page
//     node tests/page/build_three.mjs            # writes them
//     node tests/page/build_three.mjs --check    # exit status 1 where they are not what would be written

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build, version as esbuild } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const folder = fileURLToPath(new URL('../../hybrik_jax/view/web/', import.meta.url));
const three = JSON.parse(readFileSync(`${here}node_modules/three/package.json`)).version;
const licence = readFileSync(`${here}node_modules/three/LICENSE`, 'utf8'); // goes into every page, as it demands
const entry = `
  export {
    BufferAttribute, BufferGeometry, CanvasTexture, CylinderGeometry, DirectionalLight, DoubleSide, GridHelper, Group,
    HemisphereLight, InstancedMesh, LineBasicMaterial, LineSegments, Matrix4, Mesh, MeshBasicMaterial,
    MeshStandardMaterial, PerspectiveCamera, Quaternion, Scene, SphereGeometry, Spherical, SRGBColorSpace, Vector3,
    WebGLRenderer,
  } from 'three';
  export { OrbitControls } from 'three/addons/controls/OrbitControls.js';
`;
const built = await build({
  stdin: { contents: entry, resolveDir: here },
  bundle: true,
  minify: true,
  format: 'esm',
  legalComments: 'inline',
  banner: { js: `/* Parts of three.js ${three} in one file, by esbuild ${esbuild}.\n\n${licence}*/` },
  write: false,
});
const files = {
  'three.min.js': built.outputFiles[0].text,
  'LICENSE-three.txt': licence,
};
for (const [name, text] of Object.entries(files)) {
  if (!process.argv.includes('--check')) writeFileSync(folder + name, text);
  else if (readFileSync(folder + name, 'utf8') !== text) {
    console.error(`${name} is not what node tests/page/build_three.mjs makes of three.js ${three}: build it again.`);
    process.exitCode = 1;
  }
}
console.log(`three.js ${three}, esbuild ${esbuild}: ${files['three.min.js'].length} bytes`);
