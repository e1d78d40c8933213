package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func needsPostgreSQL(t *testing.T) {
	t.Helper()
	if _, err := findServerProgram("initdb"); err != nil {
		lacks(t, err)
	}
}

func TestNoUserIsWrongedByAnEngine(t *testing.T) {
	for engine, tt := range map[string]struct {
		needs  func(*testing.T)
		faults []string
	}{
		"sentinel": {needsRedis, []string{"master", "full"}},
		"postgres": {needsPostgreSQL, []string{"primary", "answers", "async"}},
	} {
		t.Run(engine, func(t *testing.T) {
			tt.needs(t)
			t.Parallel()
			var out bytes.Buffer
			violations, err := run(t.Context(), options{
				engine: engine, users: 15, processes: 3, think: 200 * time.Millisecond, duration: 24 * time.Second, faults: tt.faults, out: &out,
			})
			if err != nil || violations > 0 {
				t.Errorf("got %d violations, %v", violations, err)
			}
			for _, fault := range tt.faults {
				if !strings.Contains(out.String(), "fault: "+fault+"\n") {
					t.Errorf("the fault %s was not made", fault)
				}
			}
			t.Log(out.String())
		})
	}
}
