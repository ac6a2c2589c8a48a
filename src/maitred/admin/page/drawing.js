// Elements, numbers as people read them, and the colours of workers.
//
// Invariant: text gets into the page as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value != null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const html = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

// Neighbours in a circle of colours by the golden angle are far apart.
export const hue = (number) => Math.round((190 + number * 137.508) % 360);
export function coloured(element, number) {
  element.style.setProperty("--hue", hue(number));
  return element;
}

const UNKNOWN = "–";
const STEPS = ["", "k", "M", "G", "T"];

function scaled(number, step) {
  let i = 0;
  while (Math.abs(number) >= step && i < STEPS.length - 1) [number, i] = [number / step, i + 1];
  const digits = number < 10 && !Number.isInteger(number) ? 1 : 0;
  return [number.toFixed(digits), STEPS[i]];
}

const known = (say) => (number) => (number == null ? UNKNOWN : say(number));
export const count = known((number) => scaled(number, 1000).join(""));
export const rate = known((number) => `${count(number)}/s`);
export const bytes = known((number) => scaled(number, 1024).join(" ") + "B");
export const seconds = known((number) => (number < 1 ? `${count(number * 1000)} ms` : `${count(number)} s`));
export const percent = known((number) => `${Math.round(number)} %`);
export const clock = (time) => new Date(time * 1000).toLocaleTimeString([], { hour12: false });
export const span = known((number) => {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = Math.max(0, parts.findIndex(([, size]) => number >= size));
  return parts.slice(number < 1 ? 3 : at, at + 2).map(([unit, size], i, all) =>
    `${Math.floor((i ? number % all[i - 1][1] : number) / size)} ${unit}`).join(" ");
});
