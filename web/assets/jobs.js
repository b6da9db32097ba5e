// The table of jobs: a window of it, from the newest down or from anywhere.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { go, useData, useKeys, useRef, useState, useTick, withQuery, anyJob } from "/core.js";
import { command, count, duration, jobSeconds, more, outcome, Status, statuses, time, Trouble } from "/format.js";
import { act } from "/actions.js";

const window_ = 200; // rows

// runs says whether a job's time goes on.
export const runs = (job) => job.status === "running";

// changes says which jobs an operation can change. What the words name may be of any status, unless all say.
const changes = {
  cancel: ["waiting", "held", "running", "copying"], hold: ["waiting"], unhold: ["held", "waiting"], pause: ["running"], continue: ["running"],
  restart: ["done", "failed", "canceled", "lost"],
};
const may = (op, words) => words.some((word) => {
  const said = word.split(":").slice(1).filter((s) => statuses.includes(s));
  return !said.length || said.some((s) => changes[op].includes(s));
});

export function Jobs({ query, live }) {
  const selectors = query.getAll("sel").join(" ").trim();
  const before = Number(query.get("before")) || 0;
  const path = `/api/jobs?limit=${window_}${before ? `&before=${before}` : ""}${selectors ? `&sel=${encodeURIComponent(selectors)}` : ""}`;
  const { data, error, stale, again } = useData(path, anyJob, { pause: 500 });
  useTick(5000, (data?.jobs || []).some(runs));
  const [marks, setMarks] = useState({ of: selectors, ids: new Set() });
  const marked = marks.of === selectors ? marks.ids : new Set(); // another list has none
  const jobs = data?.jobs || [];
  const named = selectors || "all jobs";
  const words = selectors.split(/\s+/).filter(Boolean);
  const chosen = (row) => (marked.size ? [...marked] : row ? [row.jid] : []);
  const change = (op) => (row) => {
    const ids = chosen(row).map(String);
    return ids.length ? act("jobs", { op, selectors: ids }, ids.length === 1 ? `job ${ids[0]}` : `${count(ids.length)} marked jobs`) : undefined;
  };
  const bulk = (op) => act("jobs", { op, selectors: words }, named);
  const toggle = (jid) => setMarks((old) => {
    const ids = new Set(old.of === selectors ? old.ids : []);
    if (!ids.delete(jid)) ids.add(jid);
    return { of: selectors, ids };
  });
  return html`<div class="head"><h1>Jobs <small>${selectors ? html`<code>${selectors}</code>` : "newest first"}</small></h1>
      ${selectors ? html`<a class="button" href="/jobs">All jobs</a>` : null}
      ${words.length && !live?.read_only ? html`<span class="actions" role="group" aria-label="All that match">All that match:
        ${[["cancel", "Cancel"], ["hold", "Hold"], ["unhold", "Unhold"], ["pause", "Pause"], ["continue", "Continue"], ["restart", "Restart"]].filter(([op]) => may(op, words)).map(([op, name]) => html`
        <button key=${op} onClick=${() => bulk(op)}>${name}…</button>`)}</span>` : null}</div>
    <${Quick} selectors=${selectors} />
    ${marked.size ? html`<div class="marks" role="group" aria-label="Marked jobs"><b>${count(marked.size)} marked</b>
      ${["cancel", "hold", "unhold", "pause", "continue", "restart"].map((op) => html`<button key=${op} onClick=${() => change(op)()}>${op}…</button>`)}
      <button class="quiet" onClick=${() => setMarks({ of: selectors, ids: new Set() })}>Unmark</button></div>` : null}
    <${Trouble} error=${error} again=${error && !error.status ? again : null} />
    ${!error || jobs.length ? html`<div class="windowed"><${JobTable} jobs=${jobs} marked=${marked} toggle=${live?.read_only ? null : toggle} keys=${{
        c: change("cancel"), h: change("hold"), u: change("unhold"), r: change("restart"), p: change("pause"), P: change("continue"),
      }} empty=${data && !stale ? (selectors ? "No job matches." : "There are no jobs yet.") : "Loading…"} />
      <${Rail} before=${before} jobs=${jobs} newest=${(live?.status?.next_id || 1) - 1} /></div>` : null}
    <div class="pager">${before ? html`<a class="button" href=${withQuery({ before: null })}>Newest</a>` : null}
      ${before && jobs.length ? html`<a class="button" href=${withQuery({ before: jobs[0].jid + window_ + 1 })}>Newer</a>` : null}
      ${data?.next ? html`<a class="button" href=${withQuery({ before: data.next })}>Older</a>` : data && jobs.length ? html`<span class="hint">These are the oldest.</span>` : null}
      <${GoTo} /></div>`;
}

// Quick offers the selectors that are wanted most.
function Quick({ selectors }) {
  const list = [["", "all"], [":running", "running"], [":waiting", "waiting"], [":failed", "failed"], [":lost", "lost"], [":done", "done"], [":uncopied", "results not copied"]];
  return html`<nav class="chips" aria-label="Selectors">${list.map(([sel, name]) => html`
    <a key=${sel} href=${withQuery({ sel }, "/jobs")} aria-current=${sel === selectors ? "true" : null}>${name}</a>`)}</nav>`;
}

function GoTo() {
  const [text, set] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const id = Number(text);
    if (id > 0) go(withQuery({ before: id + 1 }));
    set("");
  };
  return html`<form class="goto" onSubmit=${submit}><label>Go to job <input inputmode="numeric" pattern="[0-9]+" size="9" value=${text}
    onInput=${(e) => set(e.target.value)} /></label><button>Go</button></form>`;
}

// Rail shows where among all ids the window is, and moves it.
function Rail({ before, jobs, newest }) {
  const top = before || newest, low = jobs.length ? jobs[jobs.length - 1].jid : 1;
  if (!newest || newest <= window_) return null;
  const at = (id) => 100 * (1 - Math.min(id, newest) / newest);
  const move = (id) => go(withQuery({ before: id >= newest ? null : Math.max(2, Math.round(id)) }));
  const onClick = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    move(newest * (1 - (event.clientY - box.top) / box.height));
  };
  const onKey = (event) => {
    const step = { ArrowDown: -window_, ArrowUp: window_, PageDown: -newest / 20, PageUp: newest / 20 }[event.key];
    const to = step ? top + step : { Home: newest, End: Math.min(window_, newest) }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move(to);
  };
  return html`<div class="rail" role="slider" tabindex="0" aria-label="Place in the history" aria-orientation="vertical" aria-valuemin="1"
    aria-valuemax=${newest} aria-valuenow=${Math.min(top, newest)} aria-valuetext=${`from job ${count(top)}${jobs[0] ? `, submitted ${time(jobs[0].submitted_at)}` : ""}`}
    onClick=${onClick} onKeyDown=${onKey}><span class="rail-top">${count(newest)}</span>
    <i style=${{ top: `${at(top)}%`, height: `${Math.max(at(low) - at(top), 0.5)}%` }}></i><span class="rail-low">1</span></div>`;
}

// JobTable is a table of jobs with a current row, which keys act on.
export function JobTable({ jobs, marked = new Set(), toggle, keys = {}, empty, compact }) {
  const [current, setCurrent] = useState(0); // an id: the row stays when others come above it
  const rows = useRef();
  const index = () => Math.max(jobs.findIndex((j) => j.jid === current), 0);
  const focusRow = (i) => {
    const job = jobs[Math.min(Math.max(i, 0), jobs.length - 1)];
    if (!job) return undefined;
    setCurrent(job.jid);
    const row = rows.current.querySelector(`[data-jid="${job.jid}"]`);
    row?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
    return true;
  };
  const row = () => jobs[index()];
  const onRow = (f) => () => (jobs.length ? f(row()) : undefined);
  useKeys(compact ? {} : {
    j: () => focusRow(current ? index() + 1 : 0), k: () => focusRow(index() - 1), ArrowDown: () => focusRow(current ? index() + 1 : 0), ArrowUp: () => focusRow(index() - 1),
    g: () => focusRow(0), G: () => focusRow(jobs.length - 1),
    Enter: (event) => (event.target.closest?.("a, button, input, select, summary, [role=slider]") ? undefined : onRow((j) => go(`/jobs/${j.jid}`) ?? true)()),
    l: onRow((j) => go(`/jobs/${j.jid}#log`) ?? true), e: onRow((j) => go(`/jobs/${j.jid}?stderr=1`) ?? true), w: onRow((j) => go(`/jobs/${j.jid}`) ?? true),
    t: onRow((j) => (j.machine ? go(`/timeline?machine=${encodeURIComponent(j.machine)}`) ?? true : undefined)),
    " ": (event) => (toggle && event.target.closest?.("tr") ? onRow((j) => toggle(j.jid) ?? true)() : undefined),
    ...Object.fromEntries(Object.entries(keys).map(([key, f]) => [key, onRow(f)])),
  });
  if (!jobs.length) return html`<p class="empty">${empty}</p>`;
  const shown = jobs.some((j) => j.jid === current) ? current : jobs[0].jid;
  return html`<div class="scroll"><table class="jobs"><thead><tr>${toggle ? html`<th class="mark"><span class="hidden">Mark</span></th>` : null}
      <th class="num">Job</th><th>Status</th><th class="num">Time</th><th>Machine</th><th class="wide">Class</th><th class="wide">Of</th><th>Command</th></tr></thead>
    <tbody ref=${rows}>${jobs.map((j) => html`<tr key=${j.jid} data-jid=${j.jid} tabindex=${j.jid === shown && !compact ? 0 : -1} class=${marked.has(j.jid) ? "marked" : ""}
        onFocus=${() => setCurrent(j.jid)} onClick=${(e) => { if (!e.target.closest("a, input") && !getSelection().toString()) go(`/jobs/${j.jid}`); }}>
      ${toggle ? html`<td class="mark"><input type="checkbox" tabindex="-1" aria-label=${`Mark job ${j.jid}`} checked=${marked.has(j.jid)} onChange=${() => toggle(j.jid)} /></td>` : null}
      <td class="num"><a href=${`/jobs/${j.jid}`} tabindex=${compact ? 0 : -1}>${j.jid}</a></td>
      <td><${Status} of=${j.status} remarks=${j.remarks} />${outcome(j) ? html` <span class="hint">${outcome(j)}</span>` : null}</td>
      <td class="num">${duration(jobSeconds(j))}</td>
      <td class="cut">${j.machine || ""}${more(j)}</td><td class="wide cut">${j.class || ""}</td>
      <td class="wide cut">${j.matrix ? html`<a tabindex=${compact ? 0 : -1} href=${`/matrices/${j.matrix}`}>%${j.matrix}</a>` : j.tag_name ? `@${j.tag_name}` : ""}</td>
      <td class="cmd" title=${`${j.label || ""} ${j.values || ""} ${command(j)}`.trim()}>${j.label ? html`<span class="label">${j.label}</span> ` : null}${j.values ? html`<b>${j.values}</b> ` : null}${command(j)}</td></tr>`)}</tbody></table></div>`;
}
