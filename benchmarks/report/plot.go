package main

import (
	"bytes"
	"fmt"
	"html"
	"math"

	"github.com/typedsessions/sessions/benchmarks"
)

// The plot has a pair of bars for each contender, on a logarithmic scale.
const (
	plotWidth  = 860
	plotLeft   = 250 // left end of the bars
	plotRight  = 90  // space for the figures to the right of the bars
	plotTop    = 74
	plotBar    = 11
	plotRow    = 2*plotBar + 9
	plotBottom = 26
)

// The colours of the bars are readable on a light and a dark background. Only the
// text changes.
const plotStyle = `
	text { font: 12px system-ui, sans-serif; fill: #24292f }
	.title { font-size: 15px; font-weight: 600 }
	.figure { font-size: 10px }
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
	if len(rows) == 0 {
		least, most = 1e-6, 1e-3
	}
	from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	x := func(seconds float64) float64 {
		return plotLeft + (math.Log10(seconds)-from)/(to-from)*(plotWidth-plotLeft-plotRight)
	}
	height := plotTop + len(rows)*plotRow + plotBottom

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, "<title>Time of a request with a session, in process</title>\n<style>%s</style>\n", plotStyle)
	fmt.Fprintf(&b, `<text class="title" x="12" y="24">Time of a request with a session: shorter is better, logarithmic scale</text>`+"\n")
	plotLegend(&b)
	for power := from; power <= to; power++ {
		at := x(math.Pow(10, power))
		fmt.Fprintf(&b, `<line class="line" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, at, at, plotTop-6, height-plotBottom)
		fmt.Fprintf(&b, `<text class="figure" text-anchor="middle" x="%.1f" y="%d">%s</text>`+"\n", at, height-8, decade(power))
	}
	for i, one := range rows {
		y := plotTop + i*plotRow
		fmt.Fprintf(&b, `<text text-anchor="end" x="%d" y="%d">%s</text>`+"\n", plotLeft-10, y+plotBar+4, html.EscapeString(one.c.Title))
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
	at := 12
	for _, l := range []struct{ class, text string }{
		{"ours", "this library"}, {"floor", "by hand, a plain middleware"}, {"peer", "others"},
	} {
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="40" width="12" height="12" rx="2"/><text x="%d" y="50">%s</text>`+"\n", l.class, at, at+18, l.text)
		at += 40 + 7*len(l.text)
	}
	fmt.Fprintf(b, `<text x="%d" y="50">first bar: read, second bar: change one field</text>`+"\n", at+10)
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
