package web_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// TestAnsi reads logs as the page does: styles come through, and nothing else of what controls a
// terminal; sequences may be cut anywhere.
func TestAnsi(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tab := newBrowser(t).tab()
	tab.open(s, "/jobs")
	tab.sees("There are no jobs yet")
	for _, test := range []struct{ log, want string }{
		{"plain\n", "plain|"},
		{"\x1b[1;32mgreen\x1b[0m rest\n", "a-f2 a-b:green, rest|"},
		{"\x1b[38;5;196mred\x1b[39m \x1b[48;2;0;0;255mblue\n", "a-f9:red, ,a-g12:blue|"},
		{"over lines \x1b[31m\nstill red\x1b[m\n", "over lines |a-f1:still red|"},
		{"10%\r55%\r100%\n", "100%|"},
		{"abc\rX\n", "Xbc|"},
		{"abc\b\bX\n", "aXc|"},
		{"abc\r\x1b[Kx\n", "x|"},
		{"tab\tstop\n", "tab     stop|"},
		{"\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\\n", "link|"},
		{"\x1b]52;c;eA==\x07bell\x07\n", "bell|"},
		{"\x1bP1;2|q\x1b\\dcs\n", "dcs|"},
		{"\x1b[2J\x1b[10;10Hmoved\x1b(B\n", "moved|"},
		{"<script>alert(1)</script>\n", "<script>alert(1)</script>|"},
		{"ünïcode ▶ 😀\n", "ünïcode ▶ 😀|"},
		{"broken \xff utf-8\n", "broken � utf-8|"},
		{"no end", "no end"},
		{"\x1b[>4;2mmodes\x1b[?25l\x1b[!p\n", "modes|"},
		{"\x1b[4:3;58:2::255:0:0mcurly\x1b[4:0m not\n", "a-u:curly, not|"},
		{"\x1b[58;5;1mnot bold\x1b[m\n", "not bold|"},
		{"\x1b[38:2::255:0:0mred\x1b[38:5:46mgreen\n", "a-f9:red,a-f10:green|"},
		{"\x1b[30.5;1 mnone\n", "none|"},
		{"\x1b\x1b[31mred\x1b\nred\n", "a-f1:red|a-f1:red|"},
		{"\x1b]1337;File=" + strings.Repeat("A", 9000) + "\x07image\n", "image|"},
		{"\x1b]0;never ends\nnext\n", "|next|"},
		{"\x1b[" + strings.Repeat("1;", 9000) + "mlong\n", "long|"},
		{"to the \u202eright\u2066\u00ad\u2028\n", "to the <202E>right<2066><00AD><2028>|"},
		{"a\u200dz \ufffd \U000e0067\n", "a\u200dz \ufffd <E0067>|"},
	} {
		script := fmt.Sprintf(`(async () => {
			const { Ansi } = await import("/ansi.js");
			const bytes = Uint8Array.from(atob(%s), (c) => c.charCodeAt(0));
			const show = (a) => [...a.lines.map((l) => l.map(([t, s]) => (s ? s + ":" : "") + t).join(",") + "|"), a.current().map(([t, s]) => (s ? s + ":" : "") + t).join(",")].join("");
			const whole = new Ansi();
			whole.write(bytes);
			for (let cut = 1; cut < bytes.length; cut += 1 + (bytes.length >> 7)) {
				const parts = new Ansi();
				parts.write(bytes.slice(0, cut));
				parts.write(bytes.slice(cut));
				if (show(parts) !== show(whole)) return "cut at " + cut + ": " + show(parts);
			}
			return show(whole);
		})()`, quote(base64.StdEncoding.EncodeToString([]byte(test.log))))
		if got := eval[string](tab, script); got != test.want {
			t.Errorf("%q: %q, want %q", test.log, got, test.want)
		}
	}
	for name, script := range ansiScripts {
		if got := eval[string](tab, script); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	// A line of many megabytes without an end takes no time that grows with its square.
	lines := eval[int](
		tab,
		`import("/ansi.js").then(({ Ansi }) => { const a = new Ansi(); const piece = new Uint8Array(1 << 20).fill(120); for (let i = 0; i < 16; i++) a.write(piece); return a.lines.length; })`,
	)
	if lines != 16<<20/8192-1 && lines != 16<<20/8192 {
		t.Errorf("a line of 16 MiB becomes %d", lines)
	}
	tab.quiet()
}

// ansiScripts say what is wrong with the reader, or nothing.
var ansiScripts = map[string]string{
	// Bytes of all kinds, and many of those that begin and end sequences, always the same: they
	// become lines of texts that can be seen and of classes that the page knows, wherever the bytes
	// are cut; nothing throws.
	"random bytes": `import("/ansi.js").then(({ Ansi }) => {
		let seed = 20200219;
		const random = (n) => { // xorshift32
			seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5;
			return (seed >>> 0) % n;
		};
		const pieces = ["\x1b[", "\x1b]", "\x1bP", "\x1b", "\x1b\\", "\x07", "m", ";", ":", "38;5;",
			"48:2::", "0", "31", "1", "999999999999", "K", "2K", "\r", "\n", "\b", "\t", "<b>",
			"\u202e", "é", "😀", "\u009b", "x".repeat(40), "8;;https://x", "?25h", " ", "\0"]
			.map((text) => new TextEncoder().encode(text));
		const known = /^(a-(f|g)([0-9]|1[0-5])|a-(b|dim|it|u|inv|s))( a-(f|g)([0-9]|1[0-5])| a-(b|dim|it|u|inv|s))*$/;
		const hidden = /[^\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}\u200c\u200d]/u;
		const all = (a) => [...a.lines, a.current()];
		for (let run = 0; run < 800; run++) {
			const bytes = [];
			for (let n = random(60); n > 0; n--) {
				if (random(4)) bytes.push(...pieces[random(pieces.length)]); else bytes.push(random(256));
			}
			const whole = new Ansi(), parts = new Ansi();
			whole.write(Uint8Array.from(bytes));
			for (let at = 0; at < bytes.length;) {
				const end = at + 1 + random(9);
				parts.write(Uint8Array.from(bytes.slice(at, end)));
				at = end;
			}
			const shown = JSON.stringify(all(whole));
			if (shown !== JSON.stringify(all(parts))) return run + ": cut otherwise " + bytes;
			for (const line of all(whole)) {
				for (const [text, style] of line) {
					if (text === "" || hidden.test(text.replaceAll("\ufffd", ""))) return run + ": " + JSON.stringify(text);
					if (style && !known.test(style)) return run + ": the classes " + style;
				}
				if (line.reduce((n, [text]) => n + text.length, 0) > 8 * 8192) return run + ": a long line";
			}
		}
		return "";
	})`,
	// What is read isn't looked at again, however it goes on: a piece with twice as much has twice
	// the steps.
	"steps": `import("/ansi.js").then(({ Ansi }) => {
		let steps = 0;
		class Counting extends Ansi {
			put(char) { steps++; super.put(char); }
			control(char, c) { steps++; return super.control(char, c); }
			newline() { steps += this.line.length; super.newline(); }
		}
		for (const unit of ["\x1b[", "\x1b]", "\x1b[1;", "\x1bP\x1b", "\x1b", "\x1b[1m", "\x1b]x", "x\r", "\t\x1b[2Kx", "x\n", "1", ";", "\b"]) {
			const count = (n, size) => {
				const bytes = new TextEncoder().encode("\x1b[" + unit.repeat(n)), a = new Counting();
				steps = 0;
				for (let at = 0; at < bytes.length; at += size) a.write(bytes.subarray(at, at + size));
				return steps;
			};
			const few = count(2000, 1 << 20), many = count(4000, 1 << 20), pieces = count(4000, 7);
			if (many > 2.2 * few + 20000 || pieces !== many) return JSON.stringify(unit) + ": " + [few, many, pieces];
		}
		return "";
	})`,
}
