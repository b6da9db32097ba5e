import { html } from "/vendor/htm-preact-3.1.1.js";
import { useEffect, useRef } from "/core.js";

const keys = [
  ["1 … 6", "the views"], ["/", "a selector, as on the command line: :failed %sweep @tag class=gpu machine=red 3..9"], [":", "a job by its id, a view by its name"],
  ["j k ↓ ↑ g G", "move in a table"], ["Enter", "open"], ["Esc", "back"], ["l e", "the log, what went to stderr"], ["w", "why"], ["t", "the machine's timeline"],
  ["Space", "mark a job"], ["c h u r", "cancel, hold, unhold, restart what is marked, or the row"], ["p P", "pause, continue what runs"], ["d D", "drain a machine, resume it"],
  ["← → ↑ ↓ + −", "in a timeline or a map: move the cursor, zoom"], ["#", "in a timeline or a map: the same numbers as a table"], ["y n", "in a question: yes, no"], ["?", "this"],
];

export function Help({ close, live }) {
  const dialog = useRef();
  useEffect(() => { dialog.current.showModal(); }, []);
  return html`<dialog ref=${dialog} class="help" onClose=${close} aria-labelledby="help"><h2 id="help">Keys</h2>
    <dl>${keys.map(([key, what]) => html`<div key=${key}><dt>${key.split(" ").map((k) => html`<kbd key=${k}>${k}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl>
    <p class="hint">jobserver web ${live?.program}; the daemon is ${live?.status?.version}.</p>
    <div class="buttons"><button autofocus onClick=${() => dialog.current.close()}>Close</button></div></dialog>`;
}
