// The machines: a table, and one with its facts, its jobs and its time.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { go, useData, useKeys, useRef, useState, anyJob, anyMachine } from "/core.js";
import { ago, count, duration, plural, sentence, size, Ticks, time, Trouble } from "/format.js";
import { act, Buttons } from "/actions.js";
import { JobTable } from "/jobs.js";
import { Chart } from "/timeline.js";

const signs = { connected: ["●", "on"], connecting: ["◌", "wait"], away: ["○", "off"], refused: ["✗", "off"] };

function Link({ m }) {
  const [sign, kind] = signs[m.state] || ["·", "wait"];
  return html`<span class="link link-${m.verdict ? "off" : kind}"><span aria-hidden="true">${sign}</span> ${[m.state, ...(m.remarks || [])].join(", ")}</span>`;
}

// cause is a machine's last error, without the machine's name in front of it.
export const cause = (m) => (m.last_error || "").replace(`${m.addr}: `, "");

const latency = (m) => `${(1000 * m.latency_seconds).toFixed(m.latency_seconds < 0.01 ? 1 : 0)} ms`;

// given says what was declared of a machine's resources, and how much of it is given out.
const given = (m) => (m.resources || []).filter((r) => !r.found).map((r) => `${r.name} ${count(r.held)} of ${(r.items || []).length || r.text}`).join(", ");

// remarks are what else is to be said of a machine in a list.
const remarks = (m) => [m.verdict, (m.verdict || "").includes(m.last_error || "") ? "" : cause(m), given(m), m.until ? `until ${time(m.until)}` : ""].filter(Boolean).join("; ");

export function Machines({ query, live }) {
  const cls = query.get("class") || "";
  const { data, error, again } = useData(`/api/machines${cls ? `?class=${encodeURIComponent(cls)}` : ""}`, anyMachine, { pause: 1000, every: 5000 });
  const [current, setCurrent] = useState(null);
  const rows = useRef();
  const list = data?.machines || [];
  const index = () => Math.max(list.findIndex((m) => m.addr === current), 0);
  const move = (i) => {
    const m = list[Math.min(Math.max(i, 0), list.length - 1)];
    if (!m) return undefined;
    setCurrent(m.addr);
    rows.current.children[list.indexOf(m)]?.focus();
    return true;
  };
  const change = (op) => () => (list.length && !live?.read_only ? act("machines", { op, addrs: [list[index()].addr] }, list[index()].addr) : undefined);
  useKeys({
    j: () => move(current ? index() + 1 : 0), ArrowDown: () => move(current ? index() + 1 : 0), k: () => move(index() - 1), ArrowUp: () => move(index() - 1),
    g: () => move(0), G: () => move(list.length - 1), d: change("drain"), D: change("resume"),
    Enter: (e) => (e.target.closest?.("tr[tabindex]") && list.length ? go(`/machines/${encodeURIComponent(list[index()].addr)}`) ?? true : undefined),
    t: () => (list.length ? go(`/timeline?machine=${encodeURIComponent(list[index()].addr)}`) ?? true : undefined),
  });
  const shown = list.some((m) => m.addr === current) ? current : list[0]?.addr;
  return html`<div class="head"><h1>Machines <small>${cls ? html`class <code>${cls}</code>` : plural(list.length, "machine")}</small></h1>${cls ? html`<a class="button" href="/machines">All machines</a>` : null}</div>
    <${Trouble} error=${error} again=${again} />
    ${data && !list.length ? html`<p class="empty">No machines yet: <code>jobserver machine add ADDR CLASS</code> adds one.</p>` : null}
    ${list.length ? html`<div class="card"><div class="scroll"><table><thead><tr><th>Machine</th><th>Class</th><th>State</th><th class="num">Jobs</th><th class="num wide">Load</th><th class="num wide">Free disk</th><th class="num wide">Latency</th><th class="wide">Remarks</th></tr></thead>
      <tbody ref=${rows}>${list.map((m) => html`<tr key=${m.addr} tabindex=${m.addr === shown ? 0 : -1} onFocus=${() => setCurrent(m.addr)}
          onClick=${(e) => { if (!e.target.closest("a")) go(`/machines/${encodeURIComponent(m.addr)}`); }}>
        <td class="cut"><a tabindex="-1" href=${`/machines/${encodeURIComponent(m.addr)}`}>${m.addr}</a></td><td class="cut">${m.class}</td><td><${Link} m=${m} /><span class="narrow">${remarks(m)}</span></td>
        <td class="num">${(m.running || []).length}/${m.slots || 0}</td>
        <td class="num wide">${m.state === "connected" && m.load1 != null ? `${m.load1.toFixed(1)}${m.cores ? ` of ${m.cores}` : ""}` : ""}</td>
        <td class="num wide">${m.free_bytes ? size(m.free_bytes) : ""}</td><td class="num wide">${m.latency_seconds ? latency(m) : ""}</td>
        <td class="remarks wide">${remarks(m)}</td></tr>`)}</tbody></table></div></div>` : null}`;
}

export function Machine({ addr, live }) {
  const { data, error, again } = useData(`/api/machines?addr=${encodeURIComponent(addr)}`, (c) => c.all_machines || (c.machines || []).includes(addr), { pause: 700, every: 5000 });
  const m = data?.machines?.[0];
  // A partition runs nothing itself: its class does.
  const where = m?.provider ? { cls: m.class } : { machine: addr };
  const sel = encodeURIComponent(m?.provider ? `class=${m.class}` : `machine=${addr}`);
  const jobs = useData(m ? `/api/jobs?limit=50&sel=${sel}` : null, anyJob, { pause: 1000 });
  const one = { addrs: [addr] };
  useKeys({
    d: () => (live?.read_only ? undefined : act("machines", { op: "drain", ...one }, addr)), D: () => (live?.read_only ? undefined : act("machines", { op: "resume", ...one }, addr)),
    t: () => go(`/timeline?machine=${encodeURIComponent(addr)}`) ?? true,
  });
  if (!m) return html`<h1>${addr}</h1>${error ? html`<${Trouble} error=${error} again=${again} />` : html`<p class="empty">Loading…</p>`}`;
  const facts = [
    ["Class", m.class ? html`<a href=${`/machines?class=${encodeURIComponent(m.class)}`}>${m.class}</a>` : "none"], ["Since", m.since && `${time(m.since)}, ${ago(m.since)}`],
    ["Slots", `${(m.running || []).length} of ${m.slots || 0} busy`], ["Processor", [m.cores && `${m.cores} cores`, m.cpu_model].filter(Boolean).join(", ")],
    ["Load", m.load1 != null ? m.load1.toFixed(2) : ""], ["Memory", m.memory_bytes ? size(m.memory_bytes) : ""], ["Free disk", m.free_bytes ? size(m.free_bytes) : ""],
    ["System", [m.os, m.arch, m.kernel].filter(Boolean).join(" ")], ["Latency", m.latency_seconds ? latency(m) : ""],
    ["Clock", Math.abs(m.clock_offset_seconds || 0) > 0.5 ? `${m.clock_offset_seconds > 0 ? "ahead" : "behind"} by ${duration(Math.abs(m.clock_offset_seconds))}` : ""],
    ["Slurm", m.pilot && `job ${m.pilot.job} on ${m.pilot.node}, ${(m.pilot.state || "").toLowerCase()}`], ["Allocation", m.pilot?.released && `given back: ${m.pilot.released}`],
    ["Allocations", m.provider && `up to ${m.provider.max} of ${duration(m.provider.seconds)}`], ["Asked for with", (m.provider?.args || []).length > 0 && html`<code>${m.provider.args.join(" ")}</code>`],
    ["Slurm says", (m.provider?.reasons || []).join("; ")], ["Expected to begin", m.provider?.start && time(m.provider.start)], ["Nodes left out", (m.provider?.exclude || []).join(", ")],
    ["Until", m.until && time(m.until)], ["Runs live in", m.root && html`<code>${m.root}</code>`], ["Failures in a row", m.failures || ""],
  ].filter(([, v]) => v);
  return html`<div class="head"><h1>${addr} <small><${Link} m=${m} /></small></h1>
      <${Buttons} kind="machines" live=${live} list=${[!m.draining && ["drain", one, addr], (m.draining || m.resting) && ["resume", one, addr], ["rm", one, addr]]} /></div>
    ${m.verdict || m.last_error || m.hint ? html`<section class="card why"><h2>Why</h2>${m.verdict ? html`<p><b>${sentence(m.verdict)}</b></p>` : null}
      ${m.last_error && !(m.verdict || "").includes(m.last_error) ? html`<p>${m.last_error}</p>` : null}${m.trial_at && !m.verdict ? html`<p>It is tried with a job again at ${time(m.trial_at)}.</p>` : null}
      ${m.hint ? html`<p class="hint"><${Ticks} text=${m.hint.replace(`it is ${m.verdict}; `, "")} /></p>` : null}</section>` : null}
    <${Leftovers} m=${m} />
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <${Resources} m=${m} />
    <section class="card"><h2><a href=${m.provider ? `/timeline?class=${encodeURIComponent(m.class)}` : `/timeline?machine=${encodeURIComponent(addr)}`}>Timeline</a> <small>the last 24 hours${m.provider ? html` of class <code>${m.class}</code>` : null}</small></h2><${Chart} hours=${24} ...${where} compact live=${live} /></section>
    <section class="card"><h2><a href=${`/jobs?sel=${sel}`}>Jobs</a> <small>the newest ${m.provider ? html`of class <code>${m.class}</code>` : "here"}</small></h2><${JobTable} jobs=${jobs.data?.jobs || []} compact empty="No job has run here." /></section>`;
}

// Leftovers are what is still to be ended or removed on a machine, and what nothing knows any more.
function Leftovers({ m }) {
  const orphans = Math.max(m.orphan_count || 0, (m.orphans || []).length), unremoved = m.unremoved || [];
  if (!orphans && !m.ending && !unremoved.length) return null;
  return html`<section class="card why"><h2>Left over</h2>
    ${m.ending ? html`<p>${plural(m.ending, "run")} to end.</p>` : null}
    ${unremoved.length ? html`<p>${count(unremoved.length)} ${unremoved.length === 1 ? "directory" : "directories"} to remove; it is tried again by itself:</p><ul>${unremoved.slice(0, 20).map((text) => html`<li key=${text}>${text}</li>`)}</ul>` : null}
    ${m.ending || unremoved.length ? html`<p class="hint"><${Ticks} text=${`\`jobserver machine clean --drop -m ${m.addr}\` forgets that`} /></p>` : null}
    ${orphans ? html`<p>${plural(orphans, "run")} that nothing knows any more: ${(m.orphans || []).join(", ")}${orphans > (m.orphans || []).length ? ", …" : ""}</p>
      <p class="hint"><${Ticks} text=${`\`jobserver machine clean -m ${m.addr}\` ends and removes them`} /></p>` : null}</section>`;
}

// Resources are what a machine has to give, and what is given out.
function Resources({ m }) {
  const list = m.resources || [];
  if (!list.length) return null;
  return html`<section class="card"><h2>Resources</h2><div class="scroll"><table><thead><tr><th>Name</th><th class="num">Given out</th><th class="num">Of</th><th>Items</th></tr></thead>
    <tbody>${list.map((r) => html`<tr key=${r.name}><td>${r.name}</td><td class="num">${r.name === "mem" ? size(r.held) : count(r.held)}</td><td class="num">${(r.items || []).length || r.text}</td>
      <td>${(r.items || []).join(", ")}${(r.gone || []).length ? html` <b>gone: ${r.gone.join(", ")}</b>` : null}${r.auto ? " (asked of the machine)" : ""}</td></tr>`)}</tbody></table></div></section>`;
}
