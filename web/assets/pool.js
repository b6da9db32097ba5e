// The pool at one glance: what runs, what fails, what needs somebody, how long it takes.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { getJSON, useData, useState, useTick, anyJob, anyMachine, anyMatrix } from "/core.js";
import { ago, Bar, count, duration, leftText, plural, Ticks, Trouble } from "/format.js";
import { JobTable, runs } from "/jobs.js";
import { cause } from "/machines.js";
import { Chart } from "/timeline.js";

export function Pool({ live }) {
  const machines = useData("/api/machines", anyMachine, { pause: 2000, every: 5000 });
  const matrices = useData("/api/matrices", anyMatrix, { pause: 2000 });
  const resources = useData("/api/resources", anyJob, { pause: 2000 });
  const jobs = useData("/api/jobs?limit=12", anyJob, { pause: 500 });
  useTick(5000, (jobs.data?.jobs || []).some(runs));
  const status = live?.status;
  if (!status) return html`<h1>Pool</h1><p class="empty">${live ? "The daemon has not been reached yet." : "Loading…"}</p>`;
  const unfinished = (matrices.data?.matrices || []).filter((m) => m.counts.waiting + m.counts.held + m.counts.running + m.counts.copying > 0);
  const recent = (matrices.data?.matrices || []).slice(-5).reverse();
  const shown = unfinished.length ? unfinished.slice(-8).reverse() : recent;
  return html`<h1 class="hidden">Pool</h1>
    <${Attention} live=${live} known=${!!machines.data} machines=${machines.data?.machines || []} matrices=${unfinished} />
    <div class="cards">
      <section class="card"><h2>Classes</h2>${(status.classes || []).length ? html`<div class="scroll"><table><thead><tr><th>Class</th><th>Busy</th><th class="num">Slots</th><th class="num">Waiting</th><th class="num">Left</th></tr></thead>
        <tbody>${status.classes.map((c) => html`<tr key=${c.class}>
          <td class="cut"><a href=${`/machines?class=${encodeURIComponent(c.class)}`}>${c.class}</a></td>
          <td><span class="meter" role="img" aria-label=${`${c.jobs.running} of ${c.slots} slots`}><i style=${{ width: `${c.slots ? Math.min(100, (100 * (c.jobs.running + c.jobs.copying)) / c.slots) : 0}%` }}></i></span></td>
          <td class="num">${count(c.jobs.running + c.jobs.copying)}/${count(c.slots)}</td>
          <td class="num">${c.jobs.waiting + c.jobs.held ? html`<a href=${`/jobs?sel=class=${encodeURIComponent(c.class)}:waiting:held`}>${count(c.jobs.waiting + c.jobs.held)}</a>` : "0"}</td>
          <td class="num nowrap">${leftText(c.left) || "–"}</td></tr>`)}</tbody></table></div>`
        : html`<p class="empty">No machines yet: <code>jobserver machine add ADDR CLASS</code> adds one.</p>`}
        <${PoolResources} list=${resources.data?.resources || []} />
        <${Pace} rate=${live.rate} /></section>
      <section class="card grow"><h2><a href="/timeline?hours=6">Timeline</a> <small>the last 6 hours</small></h2><${Chart} hours=${6} compact live=${live} /></section>
    </div>
    ${shown.length ? html`<section class="card"><h2><a href="/matrices">Matrices</a> ${unfinished.length ? "" : html`<small>the newest</small>`}</h2><${MatrixRows} list=${shown} /></section>` : null}
    <section class="card"><h2><a href="/jobs">Jobs</a> <small>newest first</small></h2><${Trouble} error=${jobs.error} />
      <${JobTable} jobs=${jobs.data?.jobs || []} compact empty=${jobs.data ? html`No jobs yet: <code>jobserver add CLASS COMMAND</code> submits one.` : "Loading…"} /></section>`;
}

export function MatrixRows({ list }) {
  return html`<div class="scroll"><table><thead><tr><th class="num">Id</th><th>Name</th><th class="grow">Progress</th><th class="num">Done</th><th class="num">Failed</th><th class="num">Left</th></tr></thead>
    <tbody>${list.map((m) => html`<tr key=${m.id}><td class="num"><a href=${`/matrices/${m.id}`}>${m.id}</a></td>
      <td class="cut"><a href=${`/matrices/${m.id}`}>${m.name || m.cmd}</a>${m.held ? html` <span class="st-held">held</span>` : null}</td>
      <td><${Bar} counts=${m.counts} total=${m.cells} /></td><td class="num nowrap">${count(m.counts.done)} of ${count(m.cells)}</td>
      <td class="num">${m.counts.failed + m.counts.lost ? html`<a class="st-failed" href=${`/jobs?sel=%25${m.id}:failed:lost`}>${count(m.counts.failed + m.counts.lost)}</a>` : "0"}</td>
      <td class="num nowrap">${leftText(m.left) || "–"}</td></tr>`)}</tbody></table></div>`;
}

// PoolResources are those that belong to no machine.
function PoolResources({ list }) {
  if (!list.length) return null;
  return html`<div class="scroll"><table><thead><tr><th>Of the pool</th><th class="num">Given out</th><th class="num">Waiting</th></tr></thead>
    <tbody>${list.map((r) => html`<tr key=${r.name}><td>${r.name}</td><td class="num">${count(r.held)} of ${r.text}</td><td class="num">${count(r.waiting)}</td></tr>`)}</tbody></table></div>`;
}

function Pace({ rate }) {
  const most = Math.max(...rate.recent, 1);
  return html`<p class="pace"><b>${rate.per_minute >= 10 ? count(Math.round(rate.per_minute)) : rate.per_minute.toFixed(1)}</b> jobs end a minute
    <svg viewBox="0 0 ${rate.recent.length * 6} 20" width=${rate.recent.length * 6} height="20" aria-hidden="true">${rate.recent.map((n, i) => html`
      <rect key=${i} x=${i * 6} y=${20 - Math.max((18 * n) / most, 1)} width="5" height=${Math.max((18 * n) / most, 1)} />`)}</svg></p>`;
}

// Attention is what somebody should look at, each with why and what to do.
function Attention({ live, known, machines, matrices }) {
  const [why, setWhy] = useState(null);
  const items = [];
  for (const m of machines) {
    const link = html`<a href=${`/machines/${encodeURIComponent(m.addr)}`}>${m.addr}</a>`;
    if (m.state === "refused") items.push(["refused", m.addr, html`${link} is refused`, cause(m), m.hint]);
    else if (m.state === "away") items.push(["away", m.addr, html`${link} has been away for ${ago(m.since)}`, cause(m), (m.running || []).length ? `${plural(m.running.length, "job")} ${m.pilot?.state === "SUSPENDED" ? "stand still there, and go on when it does" : "run there; they go on"}` : m.hint || `it is tried again by itself; \`jobserver machine rm ${m.addr}\` gives it up`]);
    else if ((m.orphans || []).length) items.push(["orphans", m.addr, html`${link} has ${plural(m.orphans.length, "run")} that nothing knows`, "", "`jobserver machine clean -m " + m.addr + "` removes them"]);
  }
  for (const c of known ? live.status.classes || [] : []) {
    if (c.jobs.waiting && !machines.some((m) => m.class === c.class)) items.push(["class", c.class, html`<a href=${`/jobs?sel=class=${encodeURIComponent(c.class)}:waiting`}>${plural(c.jobs.waiting, "job")}</a> ${c.jobs.waiting === 1 ? "waits" : "wait"} for class ${c.class}, which has no machine`, "", `\`jobserver machine add ADDR ${c.class}\` adds one`]);
  }
  for (const v of live.status.verdicts || []) {
    const what = v.matrix ? html`<a href=${`/matrices/${v.matrix}`}>Matrix ${v.matrix}</a>` : html`<a href=${`/machines/${encodeURIComponent(v.machine)}`}>${v.machine}</a>`;
    items.push([v.matrix ? "held" : "verdict", v.machine || v.matrix, html`${what} is ${v.text}`, "", `\`${v.undo}\` ends that`]);
  }
  for (const m of matrices) {
    if (m.held && !m.held_why) items.push(["held", m.id, html`<a href=${`/matrices/${m.id}`}>Matrix ${m.id} ${m.name || ""}</a> is held`, "", `\`jobserver matrix unhold ${m.id}\` lets it go on`]);
  }
  for (const o of live.status.owing || []) {
    const left = [o.ending && `${plural(o.ending, "run")} to end`, o.unremoved && `${count(o.unremoved)} ${o.unremoved === 1 ? "directory" : "directories"} to remove`].filter(Boolean).join(", ");
    items.push(["owing", o.machine, html`${left} on ${o.machine}${o.gone ? ", which has left the pool" : ""}`, "", `\`jobserver machine clean --drop -m ${o.machine}\` forgets that`]);
  }
  if (live.status.disk_full) items.push(["disk", "host", "The daemon's disk is full", "new work is refused until there is room again", ""]);
  const failed = live.status.jobs.failed + live.status.jobs.lost;
  const ask = async () => {
    setWhy({ asking: true });
    try { setWhy(await getJSON(`/api/why?sel=${encodeURIComponent(":failed:lost")}`)); } catch (error) { setWhy({ error }); }
  };
  if (!items.length && !failed) return null;
  return html`<section class="card attention"><h2>Look at this</h2><ul>${items.slice(0, 12).map(([kind, key, what, cause, hint]) => html`
      <li key=${`${kind} ${key}`}><b>${what}</b>${cause ? html`: ${cause}` : null}${hint ? html`<span class="hint"><${Ticks} text=${hint} /></span>` : null}</li>`)}
      ${items.length > 12 ? html`<li><a href="/machines">${count(items.length - 12)} more</a></li>` : null}
      ${failed ? html`<li><b><a href="/jobs?sel=:failed:lost">${plural(failed, "job")} failed</a></b> ${!why ? html`<button onClick=${ask}>What made them fail?</button>` : null}
        <${Why} why=${why} /></li>` : null}</ul></section>`;
}

export function Why({ why }) {
  if (!why) return null;
  if (why.error) return html`<${Trouble} error=${why.error} />`;
  if (why.asking) return html`<p class="hint">Looking…</p>`;
  return html`<div class="groups">${(why.standouts || []).map((text) => html`<p key=${text}><b>${text}</b></p>`)}
    ${(why.groups || []).map((g) => html`<div class="group" key=${g.cause + g.last_line}><p>${plural(g.jobs, "job")} ${g.cause}${g.last_line ? html`: <code>${g.last_line}</code>` : null}</p>
      <p class="hint">${(g.machines || []).slice(0, 4).map((m) => `${m.name} ${m.count}×`).join(", ")}${(g.machines || []).length > 4 ? ", …" : ""}; as ${(g.examples || []).map((id, i) => html`${i ? ", " : ""}<a key=${id} href=${`/jobs/${id}`}>${id}</a>`)}</p></div>`)}
    ${(why.uncopied || []).map((g) => html`<p key=${g.error}>${plural(g.jobs, "job")}: results not copied: ${g.error} (as <a href=${`/jobs/${g.example}`}>${g.example}</a>)</p>`)}</div>`;
}
