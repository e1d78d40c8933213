package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"

	"github.com/typedsessions/sessions/benchmarks"
)

// The plot has a pair of bars for each contender, on a logarithmic scale, below the
// contender's name: it is narrow, so that a phone shows it in a readable size.
const (
	plotWidth  = 480
	plotLeft   = 20 // left end of the bars
	plotRight  = 70 // space for the figures to the right of the bars
	plotTop    = 104
	plotBar    = 11
	plotName   = 18 // the height of a name
	plotRow    = plotName + 2*plotBar + 9
	plotGap    = 16 // after the first contenders
	plotBottom = 26
)

// plotFirst are the contenders that people ask for first.
var plotFirst = []string{"signed", "memory", "floor", "scs", "gorilla", "jwt", "remix", "iron"}

// The colours of the bars are readable on a light and a dark background. Only the
// text changes.
const plotStyle = `
	text { font: 12px system-ui, sans-serif; fill: #24292f }
	.title { font-size: 16px; font-weight: 600 }
	.figure { font-size: 11px }
	.line { stroke: #8c959f; stroke-opacity: .4 }
	.ours { fill: #2f7fe0 } .floor { fill: #8c959f } .peer { fill: #d9822b }
	.w { fill-opacity: .55 }
	@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
`

// plot returns the content of docs/benchmarks.svg.
func plot(r *results) []byte {
	type row struct {
		c    benchmarks.Contender
		r, w float64 // seconds
	}
	var rows []row
	least, most := math.Inf(1), 0.0
	for _, c := range benchmarks.Contenders {
		one := row{c, r.time(request("R", c.Name)).median, r.time(request("W", c.Name)).median}
		if one.r == 0 || one.w == 0 {
			continue
		}
		rows = append(rows, one)
		least, most = min(least, one.r, one.w), max(most, one.r, one.w)
	}
	place := func(one row) int {
		if i := slices.Index(plotFirst, one.c.Name); i >= 0 {
			return i
		}
		return len(plotFirst)
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(place(a), place(b)) })
	if len(rows) == 0 {
		least, most = 1e-6, 1e-3
	}
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	x := func(seconds float64) float64 {
		return plotLeft + (math.Log10(seconds)-from)/(to-from)*(plotWidth-plotLeft-plotRight)
	}
	height := plotTop + len(rows)*plotRow + plotGap + plotBottom

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, "<title>Time of a request with a session, in process</title>\n<style>%s</style>\n", plotStyle)
	fmt.Fprintf(&b, `<text class="title" x="20" y="24">Time of a request with a session</text>`+"\n")
	fmt.Fprintf(&b, `<text x="20" y="44">shorter is better, logarithmic; first bar: read, second: change one field</text>`+"\n")
	plotLegend(&b)
	for power := from; power <= to; power++ {
		at := x(math.Pow(10, power))
		fmt.Fprintf(&b, `<line class="line" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, at, at, plotTop-6, height-plotBottom)
		fmt.Fprintf(&b, `<text class="figure" text-anchor="middle" x="%.1f" y="%d">%s</text>`+"\n", at, height-8, decade(power))
	}
	for i, one := range rows {
		y := plotTop + i*plotRow
		if place(one) == len(plotFirst) {
			y += plotGap
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`+"\n", plotLeft, y+plotName-5, html.EscapeString(one.c.Title))
		y += plotName
		for j, seconds := range []float64{one.r, one.w} {
			class := plotClass(one.c.Kind)
			if j == 1 {
				class += " w"
			}
			top := y + j*(plotBar+1)
			fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, class, plotLeft, top, x(seconds)-plotLeft, plotBar)
			fmt.Fprintf(&b, `<text class="figure" x="%.1f" y="%d">%s</text>`+"\n", x(seconds)+5, top+plotBar-2, duration(summary{median: seconds, n: 1}))
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func plotLegend(b *bytes.Buffer) {
	at := 20
	for _, l := range []struct{ class, text string }{
		{"ours", "this library"}, {"floor", "by hand, a plain middleware"}, {"peer", "others"},
	} {
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="60" width="12" height="12" rx="2"/><text x="%d" y="70">%s</text>`+"\n", l.class, at, at+18, l.text)
		at += 40 + 7*len(l.text)
	}
}

func plotClass(k benchmarks.Kind) string {
	switch k {
	case benchmarks.Ours:
		return "ours"
	case benchmarks.Floor:
		return "floor"
	}
	return "peer"
}

// decade formats a power of ten of a second.
func decade(power float64) string {
	units := []string{"ns", "µs", "ms", "s"}
	n := max(0, int(power)+9)
	unit := min(n/3, len(units)-1)
	return fmt.Sprintf("%.0f %s", math.Pow10(n-3*unit), units[unit])
}
