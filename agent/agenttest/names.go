package agenttest

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// manifestMethod is the method that lists results.
const manifestMethod = 9

// Names are the kinds of lists that a machine makes up: each entry in the list is right by itself.
var Names = []string{"short", "long", "directories", "missing", "errors", "ended"}

// endedNames is how many entries a list has that ends.
const endedNames = 50_000

// mostListed is how many entries one piece may have.
const mostListed = 10_000

// names answers with a made-up list, which but for one kind has no end.
func (r *relay) names(id uint32) {
	_, number := r.mode(manifestMethod)
	kind := Names[number%len(Names)]
	for i := 0; ; {
		var lists [3][]byte // entries, missing paths, errors
		n := 0
		for size := 0; size < 1<<20 && n < mostListed; n++ {
			var at int
			var item []byte
			switch kind {
			case "missing":
				at, item = 1, text(nil, strings.Repeat("m", 4000)+fmt.Sprint(i))
			case "errors":
				at, item = 2, text(text(nil, fmt.Sprint("/e/", i)), "no")
			case "long":
				name := fmt.Sprint(i, "/", strings.Repeat("l", 200))
				item = listed(name, "/"+strings.Repeat("s", 3000)+name, 1)
			case "directories":
				item = listed(fmt.Sprint("d", i), fmt.Sprint("/d", i), 2)
			default:
				item = listed(fmt.Sprint("f", i), fmt.Sprint("/f", i), 1)
			}
			lists[at] = binary.BigEndian.AppendUint32(lists[at], uint32(len(item)))
			lists[at] = append(lists[at], item...)
			size += len(item) + 4
			i++
			if kind == "ended" && i >= endedNames {
				n++
				break
			}
		}
		var payload []byte
		for at, list := range lists {
			count := 0
			if len(list) > 0 {
				count = n
			}
			payload = append(binary.AppendUvarint(payload, uint64(count)), lists[at]...)
		}
		payload = append(payload, 0, 0, 0)
		if !r.write(frame{kindPart, id, payload}.bytes()) {
			return
		}
		if kind == "ended" && i >= endedNames {
			r.write(frame{kindDone, id, nil}.bytes())
			return
		}
		if what, now := r.mode(manifestMethod); what != "names" || now != number {
			return
		}
	}
}

// listed is an entry of a list: a name, where it lies, and 1 for a file or 2 for a directory.
func listed(name, source string, kind int64) []byte {
	p := binary.AppendVarint(text(text(nil, name), source), kind)
	p = append(text(p, ""), 0)
	for _, n := range []int64{0, 0o644, 1} { // size, mode, time
		p = binary.AppendVarint(p, n)
	}
	return p
}

func text(p []byte, s string) []byte {
	return append(binary.AppendUvarint(p, uint64(len(s))), s...)
}
