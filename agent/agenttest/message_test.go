package agenttest

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestShapes: what is taken apart is put together again as it was, whatever its shape.
func TestShapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	all := []string{helloShape}
	for _, shape := range shapes {
		all = append(all, shape)
	}
	for _, shape := range parts {
		all = append(all, shape)
	}
	for _, shape := range all {
		for range 100 {
			p := random(rng, shape).append(nil)
			m, err := parse(p, shape)
			if err != nil || !bytes.Equal(m.append(nil), p) {
				t.Fatalf("of the shape %s: %v, %x became %x", shape, err, p, m.append(nil))
			}
			m.spoil(rng)
			m.append(nil)
		}
	}
}

// random is a message of a shape.
func random(rng *rand.Rand, shape string) (m message) {
	for i := 0; i < len(shape); i++ {
		v := &value{
			kind:  shape[i],
			num:   rng.Uint64() >> rng.IntN(64),
			bytes: make([]byte, rng.IntN(20)),
		}
		if v.kind == '[' {
			end := i + matching(shape[i:])
			for range rng.IntN(3) {
				v.items = append(v.items, random(rng, shape[i+1:end]))
			}
			i = end
		}
		m.values = append(m.values, v)
	}
	return m
}
