// How things are said: numbers, times, statuses.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { serverNow } from "/core.js";

export const statuses = ["", "waiting", "held", "running", "copying", "done", "failed", "canceled", "lost"];
export const shapes = {
  waiting: "○", held: "‖", running: "▶", copying: "⇣", done: "✓", failed: "✗", canceled: "⊘", lost: "?",
};

export const count = (n) => (n ?? 0).toLocaleString("en-US");

export const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : noun.endsWith("x") ? "es" : "s"}`;

export function duration(seconds) {
  if (seconds == null || !isFinite(seconds)) return "";
  const s = Math.max(seconds, 0);
  if (s > 0 && s < 0.9995) return `${Math.max(Math.round(1000 * s), 1)}ms`;
  if (s < 10) return `${s.toFixed(1)}s`;
  if (s < 60) return `${Math.round(s)}s`;
  const m = Math.round(s / 60);
  if (s < 3600) return `${Math.floor(s / 60)}m${pad(Math.floor(s % 60))}s`;
  if (m < 48 * 60) return `${Math.floor(m / 60)}h${pad(m % 60)}m`;
  return `${Math.floor(s / 86400)}d${pad(Math.round((s % 86400) / 3600))}h`;
}
const pad = (n) => String(n).padStart(2, "0");

export function leftText(left) {
  if (!left) return "";
  const whole = left.seconds >= 3600 ? 60 : 1; // of hours nobody wants to know the seconds
  return duration(left.seconds) + (left.error_seconds ? ` ± ${duration(Math.max(Math.round(left.error_seconds / whole), 1) * whole).replace(/m00s$/, "m")}` : "");
}

export function size(bytes) {
  if (bytes == null) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  for (; bytes >= 1000 && i < units.length - 1; i++) bytes /= 1024;
  return `${i === 0 ? bytes : bytes.toFixed(bytes < 10 ? 1 : 0)} ${units[i]}`;
}

export function time(text) {
  if (!text) return "";
  const at = new Date(text), now = new Date(serverNow());
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  if (at.toDateString() === now.toDateString()) return clock;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock}`;
}

export const ago = (text) => (text ? duration((serverNow() - Date.parse(text)) / 1000) : "");

// jobSeconds is how long a job ran, or runs.
export function jobSeconds(job) {
  if (job.status === "running" && job.started_at) {
    const until = job.paused_at ? Date.parse(job.paused_at) : serverNow();
    return Math.max((until - Date.parse(job.started_at)) / 1000 - (job.paused_seconds || 0), 0);
  }
  if (job.duration_seconds) return job.duration_seconds;
  return null;
}

export function outcome(job) {
  if (job.status === "waiting" || job.status === "held") return ""; // that was another attempt
  if (job.signal) return job.signal;
  if (job.exit_code != null && job.exit_code !== 0) return `exit ${job.exit_code}`;
  if (job.results_status === "failed") return "results not copied";
  return "";
}

export const command = (job) => (job.setup && !job.cmd ? (job.steps || []).join(" ; ") || "setup" : job.cmd || "");

export function Status({ of, remarks, short }) {
  const said = [of || "forgotten", ...(remarks || [])].join(", ");
  return html`<span class="st st-${of}" title=${said}><span class="shape" aria-hidden="true">${shapes[of] || "·"}</span>${
    short ? html`<span class="hidden">${said}</span>` : said}</span>`;
}

// Bar shows counts by status as parts of a whole.
export function Bar({ counts, total }) {
  const all = total || statuses.reduce((n, s) => n + (counts[s] || 0), 0);
  const shown = statuses.filter((s) => s && counts[s]);
  const said = shown.map((s) => `${count(counts[s])} ${s}`).join(", ");
  const order = ["done", "failed", "lost", "canceled", "copying", "running", "held", "waiting"];
  return html`<span class="bar" role="img" aria-label=${said || "no jobs"} title=${said}>${
    order.filter((s) => counts[s]).map((s) => html`<i class="fill-${s}" key=${s} style=${{ flexGrow: Math.max(counts[s] / all, 0.004) }}></i>`)}</span>`;
}

// more is how many machines a job has beside the one that is named.
export const more = (job) => (job.machines?.length > 1 ? ` +${job.machines.length - 1}` : "");

export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "");

export function Trouble({ error, again }) {
  if (!error) return null;
  return html`<div class="trouble" role="alert"><p>${error.message}</p>${error.hint ? html`<p class="hint"><${Ticks} text=${error.hint} /></p>` : null}${
    again ? html`<button onClick=${again}>Try again</button>` : null}</div>`;
}

// Ticks shows what stands between backquotes as commands.
export function Ticks({ text }) {
  return (text || "").split("`").map((part, i) => (i % 2 ? html`<code key=${i}>${part}</code>` : part));
}
