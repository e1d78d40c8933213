package main

import (
	"image/color"
	"io"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

var (
	blue   = color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}
	red    = color.RGBA{R: 0xd6, G: 0x27, B: 0x28, A: 0xff}
	green  = color.RGBA{R: 0x2c, G: 0xa0, B: 0x2c, A: 0xff}
	orange = color.RGBA{R: 0xff, G: 0x7f, B: 0x0e, A: 0xff}
	shade  = color.RGBA{R: 0xec, G: 0xec, B: 0xec, A: 0xff}
)

// A curve is a line of a plot.
type curve struct {
	name   string
	color  color.Color
	points plotter.XYs
}

// plot draws the requests of each second and the usage of the processes, with the faults
// as gray bands. It leaves out what the users did in order to finish. The format is svg
// or png.
func (c *checker) plot(w io.Writer, format string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.series.sent), int(c.lasts.Seconds()))
	sent, failed := make(plotter.XYs, n), make(plotter.XYs, n)
	for i := range sent {
		sent[i] = plotter.XY{X: float64(i) + 0.5, Y: c.series.sent[i]}
		failed[i] = plotter.XY{X: float64(i) + 0.5, Y: c.series.failed[i]}
	}
	use := func(i int) plotter.XYs { return c.mean(resources[i]) }
	panels := []struct {
		title  string
		curves []curve
	}{
		{"requests per second", []curve{{"all", blue, sent}}},
		{"failed requests per second", []curve{{"failed", red, failed}}},
		{"MiB, mean of the processes", []curve{{"resident", green, use(1)}, {"heap in use", blue, use(0)}}},
		{"mean of the processes", []curve{{"goroutines", orange, use(2)}, {"descriptors", green, use(3)}, {"connections", blue, use(4)}}},
	}
	var rows [][]*plot.Plot
	for i, panel := range panels {
		p, err := c.panel(panel.title, panel.curves, i == 0)
		if err != nil {
			return err
		}
		rows = append(rows, []*plot.Plot{p})
	}
	rows[len(rows)-1][0].X.Label.Text = "seconds"
	canvas, err := draw.NewFormattedCanvas(24*vg.Centimeter, 28*vg.Centimeter, format)
	if err != nil {
		return err
	}
	tiles := draw.Tiles{Rows: len(rows), Cols: 1, PadY: 5 * vg.Millimeter, PadTop: 5 * vg.Millimeter, PadRight: 5 * vg.Millimeter}
	for i, row := range plot.Align(rows, tiles, draw.New(canvas)) {
		rows[i][0].Draw(row[0])
	}
	_, err = canvas.WriteTo(w)
	return err
}

// panel returns a plot of curves over the faults.
func (c *checker) panel(title string, curves []curve, named bool) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = title
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Min, p.Y.Max, p.X.Min, p.X.Max = 0, 1, 0, c.lasts.Seconds()
	for _, v := range curves {
		for _, at := range v.points {
			p.Y.Max = max(p.Y.Max, at.Y*1.4) // room for the names
		}
	}
	var names plotter.XYLabels
	for _, f := range c.faults {
		from, to := f.at.Sub(c.begun).Seconds(), p.X.Max
		if !f.back.IsZero() {
			to = f.back.Sub(c.begun).Seconds()
		}
		band, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: 0}, {X: max(to, from+0.3), Y: 0}, {X: max(to, from+0.3), Y: p.Y.Max}, {X: from, Y: p.Y.Max}})
		if err != nil {
			return nil, err
		}
		band.Color, band.Width = shade, 0
		p.Add(band)
		names.XYs = append(names.XYs, plotter.XY{X: (from + to) / 2, Y: p.Y.Max * 0.98})
		names.Labels = append(names.Labels, f.name)
	}
	if named && len(names.XYs) > 0 {
		labels, err := plotter.NewLabels(names)
		if err != nil {
			return nil, err
		}
		for i := range labels.TextStyle {
			labels.TextStyle[i].Rotation = -math.Pi / 2
			labels.TextStyle[i].YAlign = draw.YCenter
			labels.TextStyle[i].Font.Size = 8
		}
		p.Add(labels)
	}
	for _, v := range curves {
		if len(v.points) == 0 {
			continue
		}
		line, err := plotter.NewLine(v.points)
		if err != nil {
			return nil, err
		}
		line.Color = v.color
		p.Add(line)
		if len(curves) > 1 {
			p.Legend.Add(v.name, line)
		}
	}
	return p, nil
}

// mean returns what a process used on average, over time.
func (c *checker) mean(r resource) (points plotter.XYs) {
	var sum, n float64
	slot := func(at time.Time) int { return int(at.Sub(c.begun) / usageInterval) }
	for i, s := range c.samples {
		if at := s.at.Sub(c.begun); at < 0 || at > c.lasts {
			continue
		}
		sum, n = sum+r.of(s.usage), n+1
		if i == len(c.samples)-1 || slot(c.samples[i+1].at) != slot(s.at) {
			points = append(points, plotter.XY{X: s.at.Sub(c.begun).Seconds(), Y: sum / n})
			sum, n = 0, 0
		}
	}
	return points
}

// A series counts the requests of each second.
type series struct{ sent, failed []float64 }

func (s *series) add(at time.Duration, failed bool) {
	for i := int(at.Seconds()); len(s.sent) <= i; {
		s.sent, s.failed = append(s.sent, 0), append(s.failed, 0)
	}
	i := int(at.Seconds())
	s.sent[i]++
	if failed {
		s.failed[i]++
	}
}
