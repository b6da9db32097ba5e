package stats

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// raster draws into pixels. Every shape is filled in a box of its own size: a chart has thousands
// of small ones, and the rasterizer's work grows with the box.
type raster struct {
	img   *image.RGBA
	face  *typeface
	scale float64 // pixels a point
}

func newRaster(width, height float64, face *typeface) *raster {
	size := image.Rect(0, 0, int(math.Round(width*face.scale)), int(math.Round(height*face.scale)))
	r := &raster{image.NewRGBA(size), face, face.scale}
	draw.Draw(r.img, size, image.White, image.Point{}, draw.Src)
	return r
}

// WriteTo writes the picture as PNG.
func (r *raster) WriteTo(w io.Writer) (int64, error) {
	counted := counter{w: w}
	err := png.Encode(&counted, r.img)
	return counted.n, err
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (r *raster) area(c color.RGBA, points ...spot) { r.fill(c, points) }

func (r *raster) disc(
	c color.RGBA,
	centre spot,
	radius float64,
) {
	r.fill(c, circle(centre, radius))
}

func (r *raster) ring(k stroke, centre spot, radius float64) {
	around := circle(centre, radius)
	r.line(k, append(around, around[0])...)
}

// line is drawn as a box for each of its pieces and a disc where two of them meet. All of these
// turn the same way, so that where they overlap the rasterizer adds them instead of cutting one out
// of the other.
func (r *raster) line(k stroke, points ...spot) {
	half := k.width / 2
	pieces := [][]spot{points}
	if k.dashed {
		pieces = cut(points)
	}
	var shapes [][]spot
	for _, piece := range pieces {
		for i := 1; i < len(piece); i++ {
			a, b := piece[i-1], piece[i]
			long := math.Hypot(b.x-a.x, b.y-a.y)
			if long == 0 {
				continue
			}
			dx, dy := -(b.y-a.y)/long*half, (b.x-a.x)/long*half
			shapes = append(
				shapes,
				[]spot{
					{a.x + dx, a.y + dy},
					{b.x + dx, b.y + dy},
					{b.x - dx, b.y - dy},
					{a.x - dx, a.y - dy},
				},
			)
			if i > 1 {
				shapes = append(shapes, circle(a, half))
			}
		}
	}
	r.fill(k.color, shapes...)
}

// cut takes the spaces between dashes out of a line.
func cut(points []spot) (pieces [][]spot) {
	on, left := true, dashes[0]
	piece := points[:1:1]
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		long := math.Hypot(b.x-a.x, b.y-a.y)
		for done := 0.0; done < long; {
			step := min(left, long-done)
			done, left = done+step, left-step
			here := spot{a.x + (b.x-a.x)*done/long, a.y + (b.y-a.y)*done/long}
			if on {
				piece = append(piece, here)
			}
			if left > 0 {
				continue
			}
			if on {
				pieces = append(pieces, piece)
				left = dashes[1]
			} else {
				piece = []spot{here}
				left = dashes[0]
			}
			on = !on
		}
	}
	if on && len(piece) > 1 {
		pieces = append(pieces, piece)
	}
	return pieces
}

// circle is one as a polygon that turns as the boxes of a line do.
func circle(centre spot, radius float64) []spot {
	const corners = 48
	out := make([]spot, 0, corners+1)
	for i := range corners {
		sin, cos := math.Sincos(-2 * math.Pi * float64(i) / corners)
		out = append(out, spot{centre.x + radius*cos, centre.y + radius*sin})
	}
	return out
}

// fill fills shapes as one.
func (r *raster) fill(c color.RGBA, shapes ...[]spot) {
	low, high := spot{math.Inf(1), math.Inf(1)}, spot{math.Inf(-1), math.Inf(-1)}
	for _, shape := range shapes {
		for _, p := range shape {
			low.x, low.y = min(low.x, p.x*r.scale), min(low.y, p.y*r.scale)
			high.x, high.y = max(high.x, p.x*r.scale), max(high.y, p.y*r.scale)
		}
	}
	box := image.Rect(
		int(
			math.Floor(low.x),
		),
		int(math.Floor(low.y)),
		int(math.Ceil(high.x)),
		int(math.Ceil(high.y)),
	).Intersect(r.img.Bounds())
	if len(shapes) == 0 || box.Empty() {
		return
	}
	z := vector.NewRasterizer(box.Dx(), box.Dy())
	for _, shape := range shapes {
		for i, p := range shape {
			x, y := float32(p.x*r.scale-float64(box.Min.X)), float32(p.y*r.scale-float64(box.Min.Y))
			if i == 0 {
				z.MoveTo(x, y)
			} else {
				z.LineTo(x, y)
			}
		}
		z.ClosePath()
	}
	z.Draw(r.img, box, image.NewUniform(c), image.Point{})
}

// text draws a label; what is read upwards is drawn aside and turned.
func (r *raster) text(l label) {
	width := r.face.width(l.text)
	back := map[anchor]float64{middle: width / 2, end: width}[l.anchor]
	if !l.upward {
		r.letters(r.img, l.text, (l.at.x-back)*r.scale, l.at.y*r.scale)
		return
	}
	above := int(math.Ceil(ascent * r.scale))
	aside := image.NewAlpha(
		image.Rect(0, 0, int(math.Ceil(width*r.scale))+1, int(math.Ceil(lineHigh*r.scale))+1),
	)
	r.letters(aside, l.text, 0, float64(above))
	left, bottom := int(math.Round(l.at.x*r.scale))-above, int(math.Round((l.at.y+back)*r.scale))
	turned := image.NewAlpha(image.Rect(left, bottom-aside.Rect.Dx(), left+aside.Rect.Dy(), bottom))
	for y := range aside.Rect.Dy() {
		for x := range aside.Rect.Dx() {
			turned.SetAlpha(left+y, bottom-1-x, aside.AlphaAt(x, y))
		}
	}
	draw.DrawMask(
		r.img,
		turned.Rect,
		image.Black,
		image.Point{},
		turned,
		turned.Rect.Min,
		draw.Over,
	)
}

// letters writes text with its baseline from a pixel on.
func (r *raster) letters(dst draw.Image, text string, x, y float64) {
	pen := font.Drawer{
		Dst:  dst,
		Src:  image.Black,
		Face: r.face,
		Dot: fixed.Point26_6{
			X: fixed.Int26_6(math.Round(x * 64)),
			Y: fixed.Int26_6(math.Round(y * 64)),
		},
	}
	pen.DrawString(text)
}
