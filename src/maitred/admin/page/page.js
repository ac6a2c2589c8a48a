// The page: asks every second, shows it, and heeds the keyboard.

import { Charts } from "./charts.js";
import { bytes, clock, coloured, count, html, percent, rate, seconds, span } from "./drawing.js";
import { TONES, draw } from "./picture.js";
import { History, Rates, Refused, ask, remember } from "./service.js";

const EVERY = 1000;
const THEMES = ["auto", "light", "dark"];
const THEME = "maitred-theme";
const EVENT_TONES = { crash: "bad", hang: "bad", "reload-failed": "bad", lost: "bad", reload: "good", upgrade: "good", start: "good" };
const $ = (id) => document.getElementById(id);

const [rates, history] = [new Rates(), new History()];
let [snapshot, isPaused, sorted, descending] = [null, false, "slot", false];

// A line of the chart for each slot there ever was in this time.
const bySlot = (points) => (history) => {
  const most = Math.max(0, ...history.samples.map(({ slots }) => slots.length));
  return Array.from({ length: most }, (_, i) => ({ number: i, name: `slot ${i}`, points: points(history, i) }));
};
const totals = (...names) => (history) =>
  names.map(([name, text], i) => ({ number: i, name: text, points: history.rates(({ totals }) => totals[name]) }));

const charts = new Charts($("charts"), $("moment"), [
  { title: "Requests", say: rate, series: bySlot((h, i) => h.rates(({ slots }) => slots[i]?.requests)) },
  { title: "Open connections", say: count, series: bySlot((h, i) => h.values(({ slots }) => slots[i]?.connections)) },
  { title: "Event loop lag", say: seconds, series: bySlot((h, i) => h.values(({ slots }) => slots[i]?.lag)) },
  { title: "Memory", say: bytes, series: bySlot((h, i) => h.values(({ slots }) => slots[i]?.memory)) },
  { title: "CPU", say: percent, series: bySlot((h, i) => h.rates(({ slots }) => slots[i]?.cpu, 100)) },
  { title: "Connections", say: rate, series: totals(["accepted", "accepted"], ["handed_over", "handed over"], ["returned", "returned"]) },
  { title: "Trouble", say: rate, series: totals(["redispatched", "dispatched again"], ["refused", "refused"], ["lost", "lost"]) },
]);

const rateOf = (slot, name) =>
  rates.of((s) => { const same = s.slots[slot.slot]; return same?.pid === slot.pid ? same[name] : null; });
const COLUMNS = [
  ["slot", "Slot", (s) => s.slot, (n) => n],
  ["state", "State", (s) => (s.drained ? "drained" : s.late ? "late" : s.state), (text) => text],
  ["pid", "Pid", (s) => s.pid, (n) => n ?? "–"],
  ["generation", "Generation", (s) => s.generation, (n) => n ?? "–"],
  ["uptime", "Up", (s) => s.uptime, span],
  ["open", "Open", (s) => s.open, count],
  ["requests", "Requests", (s) => rateOf(s, "requests"), rate],
  ["in", "Hops in", (s) => rateOf(s, "hops_in"), rate],
  ["out", "Hops out", (s) => rateOf(s, "hops_out"), rate],
  ["lag", "Lag", (s) => s.lag, seconds],
  ["memory", "Memory", (s) => s.memory, bytes],
  ["cpu", "CPU", (s) => { const part = rateOf(s, "cpu"); return part == null ? null : 100 * part; }, percent],
  ["restarts", "Restarts", (s) => s.totals?.restarts, count],
];

function showFacts() {
  const facts = {
    generation: snapshot.generation,
    up: span(snapshot.uptime),
    accepted: rate(rates.of((s) => s.connections.accepted)),
    keys: `${count(snapshot.keys)} of ${count(snapshot.max_keys)}`,
    affinity: snapshot.affinity.join(", ") || "none",
    policy: snapshot.policy,
    lost: count(snapshot.connections.lost),
    pid: snapshot.pid,
    version: snapshot.version,
  };
  $("service").textContent = document.title = snapshot.name ? `${snapshot.name} · ${snapshot.target}` : snapshot.target;
  $("facts").replaceChildren(...Object.entries(facts).map(([name, value]) =>
    html("div", {}, html("dt", {}, name), html("dd", {}, String(value)))));
}

function showState(text, tone) {
  const place = $("state");
  if (place.textContent !== text) place.textContent = text;
  place.className = `badge ${tone}`;
}

function showWorkers() {
  const [, , value] = COLUMNS.find(([name]) => name === sorted);
  const rows = snapshot.slots.toSorted((a, b) => {
    const [x, y] = [value(a) ?? -1, value(b) ?? -1];
    return (descending ? -1 : 1) * (x < y ? -1 : x > y ? 1 : a.slot - b.slot);
  });
  document.querySelector("#workers tbody").replaceChildren(...rows.map((slot) =>
    html("tr", {}, ...COLUMNS.map(([name, , value, say]) => {
      const cell = html("td", name === "state" ? { class: `left ${TONES[value(slot)] ?? "bad"}` } : {}, String(say(value(slot))));
      if (name === "slot") cell.prepend(coloured(html("i", { class: "swatch" }), slot.slot));
      return cell;
    }))));
  for (const head of document.querySelectorAll("#workers th"))
    head.setAttribute("aria-sort", head.dataset.name === sorted ? (descending ? "descending" : "ascending") : "none");
}

const toned = (events) => events.map((event) => ({ ...event, tone: EVENT_TONES[event.kind] ?? "warn" }));

function showEvents(events) {
  if ($("events").childElementCount === events.length && $("events").dataset.last === String(events.at(-1)?.time)) return;
  $("events").dataset.last = events.at(-1)?.time;
  $("events").replaceChildren(...events.toReversed().map((event) =>
    html("li", {}, html("time", {}, clock(event.time)), html("b", { class: event.tone }, event.kind), html("span", {}, event.text))));
}

function state() {
  const ready = snapshot.slots.filter((slot) => slot.state === "ready").length;
  if (snapshot.state === "stopping") return ["stopping", "warn"];
  if (snapshot.state === "reloading") return [`reloading, ${ready} of ${snapshot.slots.length} ready`, "warn"];
  return ready === snapshot.slots.length ? ["serving", "good"] : [`${ready} of ${snapshot.slots.length} workers ready`, ready ? "warn" : "bad"];
}

function show() {
  const events = toned(snapshot.events ?? []);
  showFacts();
  showState(...state());
  showWorkers();
  showEvents(events);
  draw(document.querySelector("#picture svg"), snapshot, rates);
  charts.show(history, events);
}

async function look() {
  try {
    const [now, past] = await Promise.all([ask("snapshot"), ask("history", { since: history.last })]);
    if (now.time !== snapshot?.time) rates.take(now);
    snapshot = now;
    history.take(past);
    if (!isPaused) show();
  } catch (error) {
    if (error instanceof Refused) await askForToken();
    else showState(`no answer: ${error.message}`, "bad");
  }
  setTimeout(look, EVERY);
}

function askForToken() {
  const dialog = $("ask-token");
  dialog.showModal();
  return new Promise((go) => dialog.addEventListener("close", () => { remember($("token").value); go(); }, { once: true }));
}

async function lookUp(event) {
  event.preventDefault();
  const place = $("owner");
  try {
    const found = await ask("whereis", { key: $("key").value });
    const until = found.expires_in == null ? "" : `, for ${span(found.expires_in)} after its last use`;
    place.value = `${found.key}: slot ${found.slot}, ` + (found.pid ? `pid ${found.pid}` : "whose worker is missing") + `, ${found.by}${until}`;
    place.className = "good";
  } catch (error) {
    if (error instanceof Refused) return askForToken().then(() => lookUp(event));
    place.value = error.message;
    place.className = "bad";
  }
}

function pause() {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", isPaused);
  $("pause").textContent = isPaused ? "Go on" : "Pause";
  if (!isPaused && snapshot) show();
}

function paint(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem(THEME, theme);
}

const theme = () => localStorage.getItem(THEME) ?? "auto";
const nextTheme = () => paint(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);

const KEYS = {
  "/": () => $("key").focus(),
  ArrowLeft: () => charts.step(-1),
  ArrowRight: () => charts.step(1),
  Escape: () => charts.now(),
  p: pause,
  t: nextTheme,
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, dialog") !== null;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
$("pause").addEventListener("click", pause);
$("theme").addEventListener("click", nextTheme);
$("keys").addEventListener("click", KEYS["?"]);
document.querySelector("#lookup form").addEventListener("submit", lookUp);
document.querySelector("#workers thead").append(html("tr", {}, ...COLUMNS.map(([name, text]) => {
  const button = html("button", { type: "button" }, text);
  button.addEventListener("click", () => {
    [sorted, descending] = [name, sorted === name ? !descending : false];
    if (snapshot) showWorkers();
  });
  return html("th", { scope: "col", "data-name": name, class: name === "state" ? "left" : null }, button);
})));
paint(theme());
look();
