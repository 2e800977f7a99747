// The page: one form, one call, and what is known about it.

import { Call, type Person } from './call.js';
import type { Facts } from './facts.js';

const byId = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const form = byId<HTMLFormElement>('join');
const channelInput = byId<HTMLInputElement>('channel');
const userInput = byId<HTMLInputElement>('user');
const muteButton = byId<HTMLButtonElement>('mute');
const phases = { joining: 'Joining…', joined: 'Connected', reconnecting: 'Reconnecting…', ended: 'Not connected' };

let call: Call | null = null;

function start(channel: string, user: string): Promise<void> {
  const next = new Call(channel, user);
  call = next;
  next.onChange = show;
  sessionStorage.setItem('user', user);
  show();
  return next.join().catch((error: Error) => {
    next.leave();
    next.notice = error.message;
    show();
  });
}

function show(): void {
  const active = !!call && call.phase !== 'ended';
  form.hidden = active;
  byId('call').hidden = !active;
  byId('phase').textContent = call ? phases[call.phase] : phases.ended;
  byId('where').textContent = call?.channel ?? '';
  byId('notice').textContent = call?.notice ?? '';
  byId('notice').hidden = !call?.notice;
  muteButton.setAttribute('aria-pressed', String(!!call?.muted));
  muteButton.textContent = call?.muted ? 'Unmute' : 'Mute';
  document.title = active ? `${call?.channel} – dspeak` : 'dspeak voice channels';
  showPeople(active && call ? call.people() : []);
}

// Rows are kept between renderings, so that only what changed is touched.
const rows = new Map<string, HTMLLIElement>();

function showPeople(people: Person[]): void {
  const present = new Set(people.map((person) => person.user));
  for (const [user, row] of rows) {
    if (present.has(user)) continue;
    row.remove();
    rows.delete(user);
  }
  for (const person of people) {
    const row = rows.get(person.user) ?? addRow(person.user);
    const [, level, note] = row.children as unknown as [HTMLElement, HTMLElement, HTMLElement];
    level.style.setProperty('--level', person.level.toFixed(2));
    const text = person.self ? (call?.muted ? 'you, muted' : 'you') : person.speaks ? '' : 'listens';
    if (note.textContent !== text) note.textContent = text;
  }
}

function addRow(user: string): HTMLLIElement {
  const row = document.createElement('li');
  row.dataset['user'] = user;
  for (const name of ['name', 'level', 'note']) {
    const part = document.createElement('span');
    part.className = name;
    row.append(part);
  }
  const [name, level] = row.children as unknown as [HTMLElement, HTMLElement];
  name.textContent = user;
  name.title = user;
  level.setAttribute('aria-hidden', 'true');
  rows.set(user, row);
  byId('people').append(row);
  return row;
}

function showFacts(all: Record<string, Facts>): void {
  const body = byId('transports');
  const unit = (value: number | null, digits: number, name: string) => (value === null ? '–' : `${value.toFixed(digits)} ${name}`);
  body.replaceChildren(
    ...Object.entries(all).map(([name, facts]) => {
      const row = document.createElement('tr');
      const cells = [name, facts.state, facts.candidate || '–', facts.server || '–', unit(facts.rttMs, 1, 'ms'), unit(facts.lossPercent, 1, '%'), String(facts.packets)];
      for (const text of cells) {
        const cell = document.createElement('td');
        cell.textContent = text;
        row.append(cell);
      }
      return row;
    }),
  );
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void start(channelInput.value.trim(), userInput.value.trim());
});
const toggleMute = () => {
  if (call) call.setMuted(!call.muted).catch((error: Error) => console.warn(error.message));
};
muteButton.addEventListener('click', toggleMute);
byId('leave').addEventListener('click', () => call?.leave());
byId('reconnect').addEventListener('click', () => call?.reconnect());
document.addEventListener('keydown', (event) => {
  if (event.key.toLowerCase() !== 'm' || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (!(event.target instanceof HTMLInputElement) && call && call.phase !== 'ended') toggleMute();
});
document.addEventListener('click', () => call?.play());
window.addEventListener('pagehide', () => call?.leave());

const query = new URLSearchParams(location.search);
channelInput.value = query.get('channel') ?? 'lobby';
userInput.value = query.get('user') ?? sessionStorage.getItem('user') ?? `guest-${crypto.getRandomValues(new Uint16Array(1))[0]?.toString(36)}`;
(query.has('channel') ? userInput : channelInput).focus();

window.setInterval(() => {
  if (call && call.phase !== 'ended') showPeople(call.people());
}, 100);
window.setInterval(() => {
  if (call && call.phase !== 'ended') void call.facts().then(showFacts, () => {});
}, 1000);

// For tests and for the console.
Object.assign(window, {
  dspeak: {
    join: start,
    leave: () => call?.leave(),
    mute: (muted: boolean) => call?.setMuted(muted),
    reconnect: () => call?.reconnect(),
    state: () => ({ phase: call?.phase ?? 'ended', notice: call?.notice ?? '', muted: !!call?.muted, restored: call?.restored ?? 0, people: call?.people() ?? [] }),
    stats: () => call?.facts() ?? Promise.resolve({}),
  },
});
