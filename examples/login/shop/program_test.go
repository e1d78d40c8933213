package shop

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
)

func TestProgramStopsWhenItIsTold(t *testing.T) {
	t.Setenv("SESSION_KEYS", "")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out bytes.Buffer
	if err := run(ctx, &out, "localhost:0", "memory", OpenStore, Settings{Debug: true}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"demo shop", "memory", Passwords[DemoUser], "/debug/sessions", "Open http://localhost:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got the lines\n%swant %q in them", out.String(), want)
		}
	}
}

// A store may need seconds to answer.
func TestProgramSaysWhatItDoesBeforeItOpensTheStore(t *testing.T) {
	t.Setenv("SESSION_KEYS", "")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out bytes.Buffer
	var before string
	open := func(ctx context.Context, _ string) (sessions.Store, error) {
		before = out.String()
		return nil, nil
	}
	if err := run(ctx, &out, "localhost:0", "redis://ada:hunter2@localhost", open, Settings{}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(before, "redis") {
		t.Errorf("got %q before the store was opened, want its kind", before)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("got the password of the store:\n%s", out.String())
	}
}

func TestErrorOfATakenAddressNamesTheFlag(t *testing.T) {
	t.Setenv("SESSION_KEYS", "")
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = run(t.Context(), io.Discard, taken.Addr().String(), "memory", OpenStore, Settings{})
	if err == nil || !strings.Contains(err.Error(), "-addr") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
}

func TestErrorOfAnUnknownStoreNamesTheChoices(t *testing.T) {
	_, err := OpenStore(t.Context(), "redis://ada:hunter2@localhost")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("got %v, want an error without the password", err)
	}
	for _, want := range []string{`"redis"`, StoreNames, "examples/stores"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
