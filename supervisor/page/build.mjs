// Makes dist/ from src/. The result depends on nothing but the sources and the
// lock file, so that a rebuild can be compared with the committed bundle.
import { copyFile, readFile, readdir, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

const { metafile } = await build({
  entryPoints: { app: 'src/main.ts' },
  outdir: 'dist',
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['es2022'],
  charset: 'utf8',
  legalComments: 'none', // licenses.txt has them whole
  metafile: true,
  logLevel: 'warning',
});
for (const name of ['index.html', 'style.css', 'favicon.svg']) {
  await copyFile(`src/${name}`, `dist/${name}`);
}
await writeFile('dist/licenses.txt', await licences(Object.keys(metafile.inputs)));

// licences returns the licence of every package that went into the bundle.
async function licences(inputs) {
  const folders = new Set();
  for (const input of inputs) {
    const found = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input);
    if (found) folders.add(found[0]);
  }
  const parts = [];
  for (const folder of [...folders].sort()) {
    const about = JSON.parse(await readFile(`${folder}/package.json`, 'utf8'));
    const file = (await readdir(folder)).find((name) => /^licen[cs]e/i.test(name));
    const text = file ? await readFile(`${folder}/${file}`, 'utf8') : `Licence: ${about.license}, author: ${about.author?.name ?? about.author}\n`;
    parts.push(`${about.name} ${about.version} (${about.license})\n\n${text.replaceAll('\r\n', '\n').trim()}\n`);
  }
  return parts.join(`\n${'-'.repeat(72)}\n\n`);
}
