// Changes: each is tried first, says what would change, and asks. The focus is on what changes nothing.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { post, requestID, useEffect, useRef, useState } from "/core.js";
import { count, plural, Trouble } from "/format.js";

const verbs = {
  cancel: ["Cancel", "canceled"], hold: ["Hold", "held"], unhold: ["Unhold", "released"], restart: ["Restart", "restarted"],
  recopy: ["Copy results again", "to copy again"], forget: ["Forget", "forgotten"], rerun: ["Run again", "run again"],
  pause: ["Pause", "to pause"], continue: ["Continue", "to go on"],
  drain: ["Drain", "draining"], resume: ["Resume", "resumed"], rm: ["Remove", "removed"],
};

let open = () => {};

// act asks for a change: kind is jobs, machines or matrices; body as in change.go; what names it.
export function act(kind, body, what) { open({ kind, body, what }); return true; }

// askTyped is above how many the number has to be typed.
const askTyped = 20;

export function Actions({ live }) {
  const [asked, setAsked] = useState(null);
  const [said, setSaid] = useState("");
  open = live?.read_only ? () => setSaid("This page can change nothing: it was started with --read-only.") : setAsked;
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => setSaid(""), 8000);
    return () => clearTimeout(timer);
  }, [said]);
  return html`${asked ? html`<${Question} ...${asked} key=${JSON.stringify(asked)} close=${(text) => { setAsked(null); if (text) setSaid(text); }} />` : null}
    <div class="toast" role="status">${said ? html`<p>${said}</p>` : null}</div>`;
}

function Question({ kind, body, what, close }) {
  const dialog = useRef(), keep = useRef(), cause = useRef(document.activeElement);
  const [trial, setTrial] = useState(null);
  const [error, setError] = useState(null);
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const request = useRef(requestID()); // one for this question: a second click does nothing twice
  useEffect(() => {
    dialog.current.showModal();
    keep.current.focus();
    post(`/api/${kind}`, { ...body, dry_run: true }).then(setTrial, setError);
    return () => cause.current?.isConnected && cause.current.focus();
  }, []);
  const [verb, done] = verbs[body.op];
  const mustType = trial && trial.changed > askTyped;
  const may = trial && trial.changed > 0 && !busy && (!mustType || typed === String(trial.changed));
  const sent = useRef(false);
  const carryOut = async () => {
    if (sent.current) return; // a second click, before the first was drawn
    sent.current = true;
    setBusy(true);
    try {
      const result = await post(`/api/${kind}`, { ...body, request: request.current });
      const news = (result.jids || []).length ? ` New: ${result.jids.length === 1 ? `job ${result.jids[0]}` : plural(result.jids.length, "job")}.` : "";
      close(`${noun(kind, result.changed)} ${done}.${news}`);
    } catch (err) { sent.current = false; setError(err); setBusy(false); }
  };
  const onKey = (event) => {
    if (event.key === "y" && event.target.tagName !== "INPUT" && may) { event.preventDefault(); carryOut(); }
    if (event.key === "n" && event.target.tagName !== "INPUT") close();
  };
  return html`<dialog ref=${dialog} aria-labelledby="question" onCancel=${() => close()} onKeyDown=${onKey}>
    <h2 id="question">${verb} ${what}?</h2>
    ${!trial && !error ? html`<p>Looking what would change…</p>` : null}
    ${trial ? html`<p class="would" aria-live="polite">${sentence(kind, trial)}</p>
      ${(trial.jobs || []).length > 1 ? html`<ul class="sample">${trial.jobs.slice(0, 5).map((j) => html`<li key=${j.jid}>
        ${j.jid} <span class="st-${j.status}">${j.status}</span> ${j.note || ""} <code>${(j.cmd || "").slice(0, 80)}</code></li>`)}
        ${trial.total > 5 ? html`<li>…</li>` : null}</ul>` : null}
      ${(trial.notes || []).map((note) => html`<p class="hint" key=${note}>${note}</p>`)}
      <p class="hint">On the command line: <code>${trial.command}</code></p>` : null}
    ${mustType ? html`<label class="typed">Type ${trial.changed} to do it
      <input inputmode="numeric" autocomplete="off" value=${typed} onInput=${(e) => setTyped(e.target.value.trim())} /></label>` : null}
    <${Trouble} error=${error} />
    <div class="buttons"><button ref=${keep} onClick=${() => close()}>Keep as it is</button>
      <button class="danger" disabled=${!may} onClick=${carryOut}>${busy ? "…" : `${verb}${trial ? ` ${noun(kind, trial.changed)}` : ""}`}</button></div>
  </dialog>`;
}

const noun = (kind, n) => plural(n, kind === "machines" ? "machine" : kind === "matrices" ? "cell" : "job");

function sentence(kind, trial) {
  if (kind === "machines") return `${plural(trial.total, "machine")}.`;
  const all = kind === "matrices" ? `Of ${plural(trial.total, "cell")}` : `${plural(trial.total, "job")} ${trial.total === 1 ? "matches" : "match"}`;
  return `${all}, ${trial.changed === trial.total ? (trial.total === 1 ? "and it changes" : "and all change") : `${count(trial.changed)} change`}.`;
}

// Buttons are those of what may be done.
export function Buttons({ kind, list, live }) {
  if (live?.read_only) return null;
  return html`<span class="actions">${list.filter(Boolean).map(([op, body, what, label]) => html`
    <button key=${op + (label || "")} onClick=${(e) => { e.stopPropagation(); act(kind, { op, ...body }, what); }}>${label || verbs[op][0]}…</button>`)}</span>`;
}
