package stats

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/color"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"
)

// TestColors holds what the colours of a plot promise: each is seen on white, and any two are told
// apart by people who see all colours, and by those who lack one of the three cones.
func TestColors(t *testing.T) {
	for _, c := range colors {
		if got := 1.05 / (luminance(linear(c)) + 0.05); got < 3 {
			t.Errorf("%s has the contrast %.2f to white, less than 3", hex(c), got)
		}
	}
	// White is 100 from black, and 2.3 just noticeable; the closest pair of Okabe's and Ito's own
	// is 16 apart.
	const apart = 16
	for sight, m := range map[string][3][3]float64{
		"full": {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
		// Machado, Oliveira, Fernandes: A physiologically-based model for simulation of color
		// vision deficiency (2009), severity 1.
		"protan": {
			{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216},
			{-0.003882, -0.048116, 1.051998},
		},
		"deutan": {
			{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413},
			{-0.011820, 0.042940, 0.968881},
		},
		"tritan": {
			{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602},
			{0.004733, 0.691367, 0.303900},
		},
	} {
		for i, a := range colors {
			for _, b := range colors[:i] {
				p, q := lab(seen(m, linear(a))), lab(seen(m, linear(b)))
				if far := math.Hypot(math.Hypot(p[0]-q[0], p[1]-q[1]), p[2]-q[2]); far < apart {
					t.Errorf(
						"%s and %s are only %.1f apart with %s sight",
						hex(a),
						hex(b),
						far,
						sight,
					)
				}
			}
		}
	}
}

// linear undoes the gamma of sRGB (IEC 61966-2-1).
func linear(c color.RGBA) (out [3]float64) {
	for i, v := range []uint8{c.R, c.G, c.B} {
		if x := float64(v) / 255; x <= 0.04045 {
			out[i] = x / 12.92
		} else {
			out[i] = math.Pow((x+0.055)/1.055, 2.4)
		}
	}
	return out
}

func luminance(c [3]float64) float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }

func seen(m [3][3]float64, c [3]float64) (out [3]float64) {
	for i, row := range m {
		out[i] = min(1, max(0, row[0]*c[0]+row[1]*c[1]+row[2]*c[2]))
	}
	return out
}

// lab is a colour in CIE L*a*b* under D65, in which distances are differences that are seen.
func lab(c [3]float64) [3]float64 {
	f := func(v float64) float64 {
		if v > 0.008856 {
			return math.Cbrt(v)
		}
		return 7.787*v + 16.0/116
	}
	x := f((0.4124*c[0] + 0.3576*c[1] + 0.1805*c[2]) / 0.9505)
	y := f(luminance(c))
	z := f((0.0193*c[0] + 0.1192*c[1] + 0.9505*c[2]) / 1.089)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

// TestPixels looks at the picture itself: lines are closed where they bend and cross, dashes have
// spaces, and texts stand where they belong.
func TestPixels(t *testing.T) {
	face, err := loadTypeface(1)
	if err != nil {
		t.Fatal(err)
	}
	r := newRaster(100, 100, face)
	bent := stroke{color: black, width: 6}
	r.line(
		bent,
		spot{10, 50},
		spot{50, 50},
		spot{50, 10},
		spot{10, 50},
	) // a triangle, around in one way
	r.line(bent, spot{50, 80}, spot{50, 60}, spot{70, 60}, spot{50, 80}) // and one in the other
	r.line(stroke{color: black, width: 2, dashed: true}, spot{10, 95}, spot{30, 95})
	r.ring(stroke{color: black, width: 2}, spot{80, 20}, 10)
	r.disc(colors[1], spot{80, 50}, 5)
	r.area(colors[0], spot{85, 85}, spot{95, 85}, spot{95, 95}, spot{85, 95})
	r.area(colors[0], spot{-50, -50}, spot{-40, -50}, spot{-40, -40}) // outside
	r.line(bent, spot{90, 70}, spot{90, 70})                          // no length
	white := color.RGBA{0xff, 0xff, 0xff, 0xff}
	for _, want := range []struct {
		x, y int
		c    color.RGBA
	}{
		{50, 50, black}, {12, 49, black}, {50, 12, black}, {30, 30, black}, {45, 45, white},
		{50, 60, black}, {69, 60, black}, {51, 78, black},
		{12, 95, black}, {15, 95, white}, {17, 95, black},
		{80, 10, black}, {90, 20, black}, {80, 20, white},
		{80, 50, colors[1]}, {90, 90, colors[0]}, {0, 0, white},
	} {
		if got := r.img.RGBAAt(want.x, want.y); got != want.c {
			t.Errorf("at %d, %d is %v, want %v", want.x, want.y, got, want.c)
		}
	}
	for name, c := range map[string]struct {
		l                        label
		left, right, top, bottom int // of what is black
	}{
		"start":  {label{"IIII", spot{10, 50}, start, false}, 10, 20, 42, 50},
		"middle": {label{"IIII", spot{50, 50}, middle, false}, 44, 56, 42, 50},
		"end":    {label{"IIII", spot{50, 50}, end, false}, 38, 50, 42, 50},
		"upward": {label{"IIII", spot{50, 50}, middle, true}, 42, 50, 44, 56},
	} {
		r := newRaster(100, 100, face)
		r.text(c.l)
		left, right, top, bottom := 100, 0, 100, 0
		for y := range 100 {
			for x := range 100 {
				if r.img.RGBAAt(x, y).R < 0x80 {
					left, right, top, bottom = min(
						left,
						x,
					), max(
						right,
						x,
					), min(
						top,
						y,
					), max(
						bottom,
						y,
					)
				}
			}
		}
		for i, d := range []int{left - c.left, right - c.right, top - c.top, bottom - c.bottom} {
			if d < -2 || d > 2 {
				t.Errorf(
					"%s: it reaches from %d,%d to %d,%d; side %d is off by %d",
					name,
					left,
					top,
					right,
					bottom,
					i,
					d,
				)
			}
		}
	}
}

// TestPlotTexts draws names that a matrix may have: the SVG is XML whatever is in them, and nothing
// fails.
func TestPlotTexts(t *testing.T) {
	for _, text := range []string{
		"", "a\x1b[31mb\x00", "<&\"'>", "\xff\xfe", "日本 \U0001F600 \uFFFE",
		strings.Repeat("long ", 200),
	} {
		for _, format := range []string{"svg", "png"} {
			c := chart{
				title:  text,
				x:      axis{label: text, names: []string{text}},
				y:      axis{label: text},
				series: []series{{text, []point{{0, Summary{N: 1, Mean: 3, CI95: math.NaN()}}}}},
			}
			var out bytes.Buffer
			if err := c.write(&out, format); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if format == "png" {
				if _, err := png.Decode(&out); err != nil {
					t.Errorf("%q: %v", text, err)
				}
				continue
			}
			for dec := xml.NewDecoder(&out); ; {
				if _, err := dec.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
			}
		}
	}
}
