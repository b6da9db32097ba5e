package top

import (
	"jobserver/api"
	"jobserver/view"
)

// signs are what a cell's status looks like without colours.
var signs = map[byte]struct {
	sign  string
	style view.Style
}{
	api.MapForgotten: {
		" ",
		view.Plain,
	},
	api.MapWaiting: {"·", view.Plain},
	api.MapHeld:    {"=", view.Blue},
	api.MapRunning: {"▶", view.Yellow},
	api.MapCopying: {
		"⇣",
		view.Magenta,
	},
	api.MapDone:     {"■", view.Green},
	api.MapFailed:   {"✗", view.Red},
	api.MapCanceled: {"/", view.Grey},
	api.MapLost:     {"?", view.Red},
}

// grid says where the cells of a matrix are drawn: a column for each value of the longest axis that
// has room, a row for each of the others; or as they come.
func grid(m *api.Matrix, width int) (columns, rows int, at func(x, y int) int) {
	dims := make([]int, 0, len(m.Vars)+1)
	product, across := 1, -1
	for _, v := range append(m.Vars[:len(m.Vars):len(m.Vars)], api.Axis{Count: max(m.Repeats, 1)}) {
		dims = append(dims, v.Count)
		product *= v.Count
	}
	for i, n := range dims {
		if n > 1 && n <= width && (across < 0 || n > dims[across]) {
			across = i
		}
	}
	if m.Listed || product != m.Cells || across < 0 || m.Cells/dims[across] > 200 {
		columns = max(min(width, m.Cells), 1)
		return columns, (m.Cells + columns - 1) / columns, func(x, y int) int {
			return y*columns + x
		}
	}
	return dims[across], m.Cells / dims[across], func(x, y int) int {
		cell, stride := 0, 1
		for i := len(dims) - 1; i >= 0; i-- {
			if i == across {
				cell += x * stride
			} else {
				cell += y % dims[i] * stride
				y /= dims[i]
			}
			stride *= dims[i]
		}
		return cell
	}
}
