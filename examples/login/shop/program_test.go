package shop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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

func TestProgramThatBindsSessionsSaysWhomToTrust(t *testing.T) {
	t.Setenv("SESSION_KEYS", "")
	t.Setenv("TMPDIR", t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, lines := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, lines, "localhost:0", "memory", OpenStore, Settings{Bind: true})
		lines.Close()
	}()
	var file, url string
	for said := bufio.NewScanner(out); url == "" && said.Scan(); {
		line := strings.TrimSpace(said.Text())
		if strings.HasSuffix(line, ".pem") && !strings.Contains(line, " ") {
			file = line
		}
		if after, ok := strings.CutPrefix(line, "Open "); ok {
			url, _, _ = strings.Cut(after, ",")
		}
	}
	authority, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authority) {
		t.Fatalf("got no certificate:\n%s", authority)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	answer, err := client.Get(url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.ProtoMajor != 2 {
		t.Errorf("got %s over %s, want 200 over HTTP/2", answer.Status, answer.Proto)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want the file of the certificate gone with the program", err)
	}
}

// Users add it to what their browsers trust.
func TestTheCertificateIsGoodForLocalhostAlone(t *testing.T) {
	now := time.Now()
	authority, certificate, err := newCertificate(now)
	if err != nil {
		t.Fatal(err)
	}
	if got := authority.PermittedDNSDomains; !slices.Equal(got, []string{"localhost"}) || !authority.PermittedDNSDomainsCritical {
		t.Errorf("got an authority for %v, want localhost alone", got)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	for _, tt := range []struct {
		name string
		at   time.Time
		good bool
	}{
		{"localhost", now, true},
		{"localhost", now.Add(31 * 24 * time.Hour), false},
		{"example.com", now, false},
	} {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: tt.name, CurrentTime: tt.at, Roots: roots})
		if (err == nil) != tt.good {
			t.Errorf("%s at %v: got %v, want good %v", tt.name, tt.at, err, tt.good)
		}
	}
}

func TestAnAddressThatTheCertificateIsNotForIsAnError(t *testing.T) {
	for _, addr := range []string{":8443", "192.0.2.1:8443"} {
		err := run(t.Context(), io.Discard, addr, "memory", OpenStore, Settings{Bind: true})
		if err == nil || !strings.Contains(err.Error(), "-addr") {
			t.Errorf("%s: got %v, want an error that names the flag", addr, err)
		}
	}
}
