package sessions_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/build"
	"html"
	"os"
	"slices"
	"strings"
	"testing"
)

var draw = flag.Bool("draw", false, "write docs/architecture.svg")

// drawn are the packages in the picture. Their places follow from the imports.
var drawn = []struct{ dir, is string }{
	{".", "the typed shell, wiring, docs"},
	{"cmd/sessionctl", "keys and cookies for people"},
	{"dbsc", "binds sessions to devices"},
	{"internal/txn", "one request, one session"},
	{"internal/firstbyte", "commits before the first byte"},
	{"internal/codec", "data to bytes and back"},
	{"internal/wire", "bytes of cookies and records"},
	{"internal/phase", "how far the response is"},
	{"internal/shape", "a struct type from the inside"},
	{"internal/cookie", "one cookie"},
	{"internal/keys", "signs and seals"},
	{"internal/seam", "what dbsc sees of a session"},
	{"internal/wait", "the lock, the time limit"},
	{"internal/watch", "tells when sessions end"},
}

// TestTheArchitecturePictureIsThatOfTheImports draws docs/architecture.svg anew
// and compares.
func TestTheArchitecturePictureIsThatOfTheImports(t *testing.T) {
	const path = "docs/architecture.svg"
	want := architecture(t)
	if *draw {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the imports give; draw it anew: go test . -run Architecture -draw", path)
	}
}

func architecture(t *testing.T) []byte {
	imports := map[string][]string{}
	for _, d := range drawn {
		p, err := build.ImportDir(d.dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			if to, ours := strings.CutPrefix(path, "github.com/typedsessions/sessions/"); ours {
				imports[d.dir] = append(imports[d.dir], to)
			} else if path == "github.com/typedsessions/sessions" {
				imports[d.dir] = append(imports[d.dir], ".")
			}
		}
	}
	// A package stands one floor above the highest one that it imports.
	var floor func(dir string) int
	floor = func(dir string) (n int) {
		for _, to := range imports[dir] {
			n = max(n, floor(to)+1)
		}
		return n
	}
	const width, boxW, boxH, gapX, gapY = 980, 190, 54, 6, 52
	rows := map[int][]int{}
	top := 0
	for i, d := range drawn {
		f := floor(d.dir)
		rows[f] = append(rows[f], i)
		top = max(top, f)
	}
	type point struct{ x, y int }
	at := map[string]point{}
	for f, row := range rows {
		total := len(row)*boxW + (len(row)-1)*gapX
		for k, i := range row {
			at[drawn[i].dir] = point{(width-total)/2 + k*(boxW+gapX), 10 + (top-f)*(boxH+gapY)}
		}
	}
	height := 20 + (top+1)*boxH + top*gapY
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	for _, d := range drawn {
		targets := slices.Clone(imports[d.dir])
		slices.Sort(targets)
		for _, to := range targets {
			a, z := at[d.dir], at[to]
			fmt.Fprintf(&b, `<path d="M%d %d C%d %d %d %d %d %d" fill="none" stroke="#9aa5b1"/>`+"\n",
				a.x+boxW/2, a.y+boxH, a.x+boxW/2, a.y+boxH+gapY, z.x+boxW/2, z.y-gapY, z.x+boxW/2, z.y)
		}
	}
	for _, d := range drawn {
		p := at[d.dir]
		name := strings.TrimPrefix(d.dir, "internal/")
		if d.dir == "." {
			name = "sessions"
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="#eef3f8" stroke="#486581"/>`+"\n", p.x, p.y, boxW, boxH)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" font-weight="bold" fill="#102a43">%s</text>`+"\n", p.x+boxW/2, p.y+22, html.EscapeString(name))
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" font-size="11" fill="#334e68">%s</text>`+"\n", p.x+boxW/2, p.y+41, html.EscapeString(d.is))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
