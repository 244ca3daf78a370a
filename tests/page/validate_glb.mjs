// Exit status 1, and every issue on a line, where the Khronos validator finds errors or warnings in .glb files.
//
//     node tests/page/validate_glb.mjs FILE.glb ...

import { readFileSync } from 'node:fs';
import { validateBytes, version } from 'gltf-validator';

if (process.argv.length < 3) throw new Error('Name the .glb files.');
for (const file of process.argv.slice(2)) {
  const report = await validateBytes(new Uint8Array(readFileSync(file)), { maxIssues: 100 });
  const { numErrors, numWarnings, numInfos, numHints, messages } = report.issues;
  console.log(
    `${file}: ${numErrors} errors, ${numWarnings} warnings, ${numInfos} infos, ${numHints} hints ` +
      `(gltf-validator ${version()}; ${report.info.totalVertexCount} vertices, ` +
      `${report.info.animationCount} animations)`,
  );
  for (const { code, message, pointer } of messages) console.log(`  ${code} ${pointer}: ${message}`);
  if (numErrors || numWarnings) process.exitCode = 1;
}
