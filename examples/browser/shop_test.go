package browser

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// patience is the timeout of every wait: far more than a loaded machine needs.
const patience = 30 * time.Second

// shared holds the folder of the program and the process of the browser, which all
// tests use.
var shared struct {
	dir     string
	browser context.Context
	stops   []func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range slices.Backward(shared.stops) {
		stop()
	}
	os.Exit(code)
}

// prepare builds the shop and starts the browser when the first test needs them,
// so that listing the tests does neither.
var prepare = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "login-browser-")
	if err != nil {
		return err
	}
	shared.dir = dir
	shared.stops = append(shared.stops, func() { os.RemoveAll(dir) })
	build := exec.Command("go", "build", "-o", dir, "./login")
	build.Dir = ".." // the program's module
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./login: %w\n%s", err, out)
	}

	ctx, stop, err := startBrowser()
	shared.browser = ctx
	shared.stops = append(shared.stops, stop)
	return err
})

// startBrowser starts a browser of its own, which runs until stop is called.
func startBrowser(options ...chromedp.ExecAllocatorOption) (ctx context.Context, stop func(), err error) {
	options = slices.Concat(chromedp.DefaultExecAllocatorOptions[:], []chromedp.ExecAllocatorOption{chromedp.ExecPath(chromium())}, options)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium gives root none
	}
	allocator, wait := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ = chromedp.NewContext(allocator)
	stop = sync.OnceFunc(func() {
		chromedp.Cancel(ctx) // closes it, so that it saves its profile
		wait()
	})
	return ctx, stop, chromedp.Do(ctx)
}

// chromium returns the path of the browser, "" if there is none.
func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// endWithParent stops the program when the test ends by a panic, if the system
// supports that.
var endWithParent *syscall.SysProcAttr

// A shop is the running program.
type shop struct {
	t     *testing.T
	url   string
	trust string // the public key that a browser is to trust, with the flag -dbsc
}

// open starts the shop on a port that the system chooses, and stops it when the
// test ends.
func open(t *testing.T, args ...string) *shop {
	t.Helper()
	if chromium() == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing; Debian's package chromium brings it")
		}
		t.Skip("chromium is missing; Debian's package chromium brings it")
	}
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(shared.dir, "login"), append(args, "-addr", "localhost:0")...)
	cmd.Env = append(os.Environ(), "SESSION_KEYS=", "TMPDIR="+t.TempDir()) // it is killed, and leaves its files
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = endWithParent
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		cmd.Wait()
	})
	s := &shop{t: t}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, after, ok := strings.Cut(lines.Text(), "--ignore-certificate-errors-spki-list="); ok {
			s.trust, _, _ = strings.Cut(after, " ")
		}
		if after, ok := strings.CutPrefix(lines.Text(), "Open "); ok {
			s.url, _, _ = strings.Cut(after, ",")
			return s
		}
	}
	t.Fatalf("the program ended without its address: %v", cmd.Wait())
	return nil
}

func everyStore(t *testing.T, test func(*testing.T, *shop)) {
	for _, store := range []string{"cookie", "memory"} {
		t.Run(store, func(t *testing.T) { test(t, open(t, "-store", store)) })
	}
}
