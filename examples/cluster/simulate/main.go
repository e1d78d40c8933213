// Simulate prints the tables of docs/SCALE.md: how many sessions an engine holds, how
// many servers ten million and a billion of them need, and what becomes of a rush of
// logins, of a session that a thousand requests change at once, and of a flood of
// anonymous visitors, which two processors cannot show.
//
//	go run ./examples/cluster/simulate
//	go run ./examples/cluster/simulate -write docs/SCALE.md
//
// The figures that the tables begin with are measured: see inputs.go. What happens in
// time is a discrete-event simulation. Its tests compare it with formulas of queueing
// theory, and at a small size with this library.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	seed := flag.Uint64("seed", 1, "the seed of the random numbers; docs/SCALE.md has the tables of seed 1")
	file := flag.String("write", "", "replace the tables in this `file` in place of printing them")
	flag.Parse()
	all := tables(*seed)
	if *file == "" {
		for _, t := range all {
			fmt.Printf("%s:\n\n%s\n", t.name, t.text())
		}
		return
	}
	if err := write(*file, all); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

func write(file string, all []table) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc, err := fillIn(string(text), all)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(doc), 0o644)
}

// fillIn replaces the tables of a document. Each stands after a comment with its
// name, and ends with an empty line.
func fillIn(doc string, all []table) (string, error) {
	for _, t := range all {
		before, after, ok := strings.Cut(doc, t.mark())
		if !ok {
			return "", fmt.Errorf("there is no %s", t.mark())
		}
		_, after, ok = strings.Cut(after, "\n\n")
		if !ok {
			return "", fmt.Errorf("no empty line ends the table after %s", t.mark())
		}
		doc = before + t.mark() + "\n" + t.text() + "\n" + after
	}
	return doc, nil
}

// A table is one in Markdown. Columns but the first are numbers.
type table struct {
	name string
	rows [][]string
}

func (t table) mark() string { return "<!-- table: " + t.name + " -->" }

func (t table) text() string {
	var b strings.Builder
	for i, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|---|%s\n", strings.Repeat("--:|", len(row)-1))
		}
	}
	return b.String()
}
