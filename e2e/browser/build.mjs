// Bundles the test clients, one for each version of mediasoup-client, into the
// folder given as argument.
import { build } from 'esbuild';

const outdir = process.argv[2];
if (!outdir) throw new Error('usage: node build.mjs FOLDER');
await build({
  entryPoints: { newest: 'newest.js', shipped: 'shipped.js' },
  outdir,
  bundle: true,
  format: 'iife',
  target: ['es2022'],
  logLevel: 'warning',
});
