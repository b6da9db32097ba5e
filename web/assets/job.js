// One job: what it is, why it is where it is, its attempts and its log.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { go, useData, useKeys, useState, withQuery, jobIn } from "/core.js";
import { ago, duration, jobSeconds, more, sentence, size, Status, Ticks, time, Trouble } from "/format.js";
import { act, Buttons } from "/actions.js";
import { Log } from "/log.js";

export function Job({ id, query, live }) {
  const { data: job, error, again } = useData(`/api/jobs/${id}`, jobIn(id), { pause: 500 });
  // What holds a waiting job back changes with others.
  const { data: why } = useData(`/api/jobs/${id}/why`, (c) => jobIn(id)(c) || job?.status === "waiting", { pause: 1500 });
  const one = { selectors: [String(id)] };
  const change = (op) => () => (live?.read_only || !job ? undefined : act("jobs", { op, ...one }, `job ${id}`));
  useKeys({
    c: change("cancel"), h: change("hold"), u: change("unhold"), r: change("restart"), p: change("pause"), P: change("continue"),
    e: () => go(withQuery({ stderr: query.get("stderr") ? null : "1" }), { replace: true }) ?? true,
    l: () => { document.querySelector(".log .lines")?.focus(); return true; },
    t: () => (job?.machine ? go(`/timeline?machine=${encodeURIComponent(job.machine)}`) ?? true : undefined),
  });
  if (error && !job) return html`<h1>Job ${id}</h1><${Trouble} error=${error} again=${again} />`;
  if (!job) return html`<h1>Job ${id}</h1><p class="empty">Loading…</p>`;
  const over = ["done", "failed", "canceled", "lost"].includes(job.status);
  const attempt = Number(query.get("attempt")) || job.attempt || 0;
  return html`<div class="head"><h1>Job ${id} <${Status} of=${job.status} remarks=${job.remarks} /></h1>
      <${Buttons} kind="jobs" live=${live} list=${[
        !over && ["cancel", one, `job ${id}`], job.status === "waiting" && ["hold", one, `job ${id}`], job.status === "held" && ["unhold", one, `job ${id}`],
        job.status === "running" && !job.setup && [["paused", "pausing"].includes(job.pause) ? "continue" : "pause", one, `job ${id}`],
        over && ["restart", one, `job ${id}`], job.results_status === "failed" && ["recopy", one, `job ${id}`],
      ]} /></div>
    <pre class="command" tabindex="0" aria-label="Command">${job.setup ? (job.steps || []).join("\n") : job.cmd}</pre>
    ${why && job.status !== "done" || why?.hint ? html`<section class="card why"><h2>Why</h2><p>${sentence(why.summary)}</p>
      ${(why.details || []).length ? html`<ul>${why.details.map((d, i) => html`<li key=${i}>${d}</li>`)}</ul>` : null}
      ${(why.output || []).length ? html`<pre class="output" tabindex="0" aria-label="What it printed last">${why.output.join("\n")}</pre>` : null}
      ${why.hint ? html`<p class="hint"><${Ticks} text=${why.hint} /></p>` : null}</section>` : null}
    <${Facts} job=${job} />
    ${(job.attempts || []).length > 1 ? html`<${Attempts} job=${job} shown=${attempt} />` : null}
    ${job.attempt ? html`<${Log} key=${`${attempt} ${query.get("stderr")} ${query.get("step")}`} job=${job} attempt=${attempt} stderr=${!!query.get("stderr")}
        step=${query.has("step") ? Number(query.get("step")) : job.setup ? Math.max((job.log_full || []).length - 1, 0) : 0} />`
      : html`<section class="card"><h2>Log</h2><p class="empty">It has not run yet.</p></section>`}`;
}

function Facts({ job }) {
  const vars = Object.entries(job.vars || {}), env = Object.entries(job.env || {});
  const facts = [
    ["Machine", job.machine && html`<a href=${`/machines/${encodeURIComponent(job.machine)}`}>${job.machine}</a>${more(job)}${job.slot != null ? ` slot ${job.slot}` : ""}`],
    ["Class", job.class],
    ["Matrix", job.matrix && html`<a href=${`/matrices/${job.matrix}`}>%${job.matrix}</a>${job.cell != null ? ` cell ${job.cell}` : ""}`],
    ["Tag", job.tag_name && html`<a href=${`/jobs?sel=@${encodeURIComponent(job.tag_name)}`}>@${job.tag_name}</a>`],
    ["Submitted", time(job.submitted_at)], ["Started", time(job.started_at)],
    ["Ended", job.ended_at && `${time(job.ended_at)}, ${ago(job.ended_at)} ago`],
    [job.status === "running" ? "Runs since" : "Ran", duration(jobSeconds(job))],
    ["Exit", job.signal ? job.signal : job.exit_code != null ? String(job.exit_code) : ""],
    ["Label", job.label], ["Canceled as", job.reason], ["Error", job.error], ["Processor", job.cpu_seconds ? duration(job.cpu_seconds) : ""], ["Memory", job.max_rss_bytes ? size(job.max_rss_bytes) : ""],
    ["Paused", job.paused_at ? `since ${time(job.paused_at)}` : job.paused_seconds ? `for ${duration(job.paused_seconds)}` : ""],
    ["Time limit", job.timeout_seconds ? duration(job.timeout_seconds) : ""],
    ["Retries", job.max_failures ? `${job.failures || 0} of ${job.max_failures < 0 ? "any number" : job.max_failures}` : ""],
    ["Retried on", (job.retry_on || []).join(", ")], ["Not retried on", (job.no_retry_on || []).join(", ")],
    ["Next try", job.not_before && time(job.not_before)], ["Not before", job.start_after && time(job.start_after)], ["Priority", job.priority || ""],
    ["Directory", job.cwd], ["Standard input", job.stdin], ["Needs", job.needs_text], ["Was given", (job.given_texts || []).at(-1)], ["Waits", (job.after || []).join("; ")],
    ["Restart of", job.restart_of && html`<a href=${`/jobs/${job.restart_of}`}>${job.restart_of}</a>`],
    ["Results", results(job)],
    ["Variables", vars.length && html`<code>${vars.map(([k, v]) => `${k}=${v}`).join("  ")}</code>`],
    ["Environment", env.length && html`<code>${env.map(([k, v]) => `${k}=${v}`).join("  ")}</code>`],
    ["Code", job.code && html`<code>${(job.code.hash || "").slice(0, 12)}</code>`],
  ].filter(([, value]) => value);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function results(job) {
  if (!job.results_status || job.results_status === "none") return (job.results || []).length ? `${job.results.join(", ")} (not copied)` : "";
  const where = job.results_dir ? html` <code>${job.results_dir}</code>` : null;
  return html`${job.results_status}${where}${job.results_error ? `: ${job.results_error}` : ""}`;
}

function Attempts({ job, shown }) {
  return html`<section class="card"><h2>Attempts</h2><div class="scroll"><table><thead><tr><th class="num">Attempt</th><th>Machine</th><th>Outcome</th><th>Began</th><th class="num">Ran</th></tr></thead>
    <tbody>${[...job.attempts].reverse().map((a) => html`<tr key=${a.attempt} class=${a.attempt === shown ? "marked" : ""}>
      <td class="num"><a href=${withQuery({ attempt: a.attempt === job.attempt ? null : a.attempt })} aria-current=${a.attempt === shown ? "true" : null}>${a.attempt}</a></td>
      <td class="cut">${(a.ranks || [a]).map((r, i) => html`${i ? ", " : ""}<a href=${`/machines/${encodeURIComponent(r.machine)}`}>${r.machine}</a>`)}</td>
      <td>${a.outcome}${a.exit_code != null ? ` ${a.exit_code}` : ""}${a.signal ? ` ${a.signal}` : ""}${a.error ? `: ${a.error}` : ""}</td>
      <td>${time(a.dispatched_at)}</td><td class="num">${duration(a.duration_seconds)}</td></tr>`)}</tbody></table></div></section>`;
}
