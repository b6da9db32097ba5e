import { html } from "/vendor/htm-preact-3.1.1.js";
import { useData, useState, anyJob } from "/core.js";
import { time, Trouble } from "/format.js";

// Events lists what has happened, the newest first.
export function Events() {
  const { data, error, again } = useData("/api/events", () => true, { pause: 1000 });
  const [warn, setWarn] = useState(false);
  const grave = (e) => /failed|lost|broken|away|held|low|silent|retried|copy-waits/.test(e.kind);
  const events = (data?.events || []).filter((e) => !warn || grave(e)).reverse();
  return html`<div class="head"><h1>Events <small>newest first</small></h1>
      <label class="check"><input type="checkbox" checked=${warn} onChange=${(e) => setWarn(e.target.checked)} /> only what somebody should look at</label></div>
    <${Trouble} error=${error} again=${again} />
    ${data && !events.length ? html`<p class="empty">Nothing has happened that is still remembered.</p>` : null}
    ${events.length ? html`<div class="card"><div class="scroll"><table class="events"><thead><tr><th>When</th><th class="wide">What</th><th>Told</th></tr></thead><tbody>${events.map((e) => html`
      <tr key=${`${e.cursor}.${e.jid || ""}`} class=${grave(e) ? "grave" : ""}><td class="num">${time(e.at)}</td>
        <td class="kind wide">${grave(e) ? html`<b aria-hidden="true">! </b>` : ""}${e.kind}</td>
        <td><span class="narrow">${e.kind}</span>${e.jid ? html`<a href=${`/jobs/${e.jid}`}>${e.text}</a>` : e.machine ? html`<a href=${`/machines/${encodeURIComponent(e.machine)}`}>${e.text}</a>` : e.matrix ? html`<a href=${`/matrices/${e.matrix}`}>${e.text}</a>` : e.text}</td></tr>`)}</tbody></table></div></div>` : null}`;
}
