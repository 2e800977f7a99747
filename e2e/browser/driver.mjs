// Drives one browser for a test. Reads a JSON request a line from the standard
// input and writes a JSON answer a line to the standard output:
//   {id, op: "open", url}            -> {id, value: page}
//   {id, op: "eval", page, code}     -> {id, value}   code: a function's body
//   {id, op: "console", page}        -> {id, value: [lines]}
//   {id, op: "close", page}          -> {id}
// A failed request is answered by {id, error}. The browser ends with the input.
import { createInterface } from 'node:readline';

const [, , kind, executablePath] = process.argv;
const consoleLimit = 500;

const chromiumFlags = [
  '--no-sandbox', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required', '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--allow-loopback-in-peer-connection',
  '--disable-dev-shm-usage', '--disable-gpu',
];
const firefoxPreferences = {
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.devices.insecure.enabled': true,
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.autoplay.block-webaudio': false,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  // Pages of one window hide each other; their timers must run all the same.
  'dom.min_background_timeout_value': 4,
  'dom.min_background_timeout_value_without_budget_throttling': 4,
  'dom.timeout.enable_budget_timer_throttling': false,
  'widget.windows.window_occlusion_tracking.enabled': false,
};

async function launch() {
  if (kind === 'chromium') {
    const { chromium } = await import('playwright-core');
    const browser = await chromium.launch({ executablePath, args: chromiumFlags, ignoreDefaultArgs: ['--mute-audio'] });
    return {
      close: () => browser.close(),
      open: async () => {
        const context = await browser.newContext();
        return { page: await context.newPage(), close: () => context.close() };
      },
    };
  }
  const puppeteer = await import('puppeteer-core');
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath, headless: true, extraPrefsFirefox: firefoxPreferences });
  return {
    close: () => browser.close(),
    open: async () => {
      const page = await browser.newPage();
      return { page, close: () => page.close() };
    },
  };
}

const pages = new Map();
let last = 0;
const browser = await launch();

const operations = {
  async open({ url }) {
    const { page, close } = await browser.open();
    const lines = [];
    const note = (line) => {
      lines.push(line);
      if (lines.length > consoleLimit) lines.shift();
    };
    page.on('console', (message) => note(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => note(`uncaught: ${error.message}`));
    const name = `page${++last}`;
    pages.set(name, { page, close, lines });
    await page.goto(url, { waitUntil: 'load' });
    return name;
  },
  // The text is evaluated by the debugger, which no policy of the page stops.
  eval: ({ page, code }) => pages.get(page).page.evaluate(`(async () => { ${code} })()`),
  console: async ({ page }) => pages.get(page).lines,
  async close({ page }) {
    await pages.get(page).close();
    pages.delete(page);
  },
};

process.stdout.write(`${JSON.stringify({ id: 0, value: 'ready' })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  operations[request.op](request).then(
    (value) => process.stdout.write(`${JSON.stringify({ id: request.id, value: value ?? null })}\n`),
    (error) => process.stdout.write(`${JSON.stringify({ id: request.id, error: String(error.message ?? error) })}\n`),
  );
}
await browser.close();
process.exit(0);
