package benchmarks

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkFirstByte measures the time until the first byte of a response arrives,
// when the handler changes the session before it writes. An operation is the whole
// response.
func BenchmarkFirstByte(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int64
	}{{"1kB", 1_000}, {"100MB", 100_000_000}} {
		for _, by := range []string{"bare", "signed", "memory", "scs"} {
			b.Run("by="+by+"/size="+size.name, func(b *testing.B) {
				measureFirstByte(b, by, size.bytes)
			})
		}
	}
}

func measureFirstByte(b *testing.B, by string, size int64) {
	h, cookie := download(b, by, size)
	server := httptest.NewServer(h)
	b.Cleanup(server.Close)
	request, err := http.NewRequest("GET", server.URL, nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Cookie", around(cookie))
	var first []time.Duration
	b.SetBytes(size)
	for b.Loop() {
		start := time.Now()
		response, err := server.Client().Do(request)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		first = append(first, time.Since(start))
		n, err := io.Copy(io.Discard, response.Body)
		if err != nil || n+1 != size {
			b.Fatalf("got %d bytes and %v, want %d", n+1, err, size)
		}
		_ = response.Body.Close()
	}
	slices.Sort(first)
	b.ReportMetric(float64(first[len(first)/2].Nanoseconds()), "first-byte-ns")
}

// download returns a handler that changes the session and writes size bytes, and
// the cookie of a session. The contender "bare" has no session.
func download(tb testing.TB, by string, size int64) (h http.Handler, cookie string) {
	tb.Helper()
	body := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.CopyN(w, zeros{}, size) // the client reports an incomplete body
	})
	if by == "bare" {
		return body, "none=1"
	}
	a := apps[by](tb)
	return a.download(counter(), body), signIn(tb, a, visitor())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestDownloadsChangeTheSession(t *testing.T) {
	for _, by := range []string{"signed", "memory", "scs"} {
		t.Run(by, func(t *testing.T) {
			const size = 100_000
			a := apps[by](t)
			cookie := signIn(t, a, visitor())
			h, _ := download(t, "bare", size)
			w := httptest.NewRecorder()
			a.download(func() int { return 7 }, h).ServeHTTP(w, request(cookie))
			if w.Body.Len() != size {
				t.Errorf("got %d bytes, want %d", w.Body.Len(), size)
			}
			if line := w.Header().Get("Set-Cookie"); line != "" {
				cookie, _, _ = strings.Cut(line, ";")
			}
			want := visitor()
			want.UserID = 7
			wantShop(t, a, cookie, "the next request sees the change", want, true)
		})
	}
}
