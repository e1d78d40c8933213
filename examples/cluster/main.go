package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// appFlag makes this program an application process.
const appFlag = "-app"

// Options configure a run.
type options struct {
	engine    string
	users     int
	processes int
	think     time.Duration
	duration  time.Duration
	faults    []string // nil: all that the engine has
	fault     string   // of the applications: see -break
	plot      string   // a file to draw into
	stopEarly bool     // stop at the first violation
	out       io.Writer
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == appFlag {
		if err := runApp(); err != nil {
			fmt.Fprintln(os.Stderr, "application process:", err)
			os.Exit(1)
		}
		return
	}
	o := options{out: os.Stdout}
	flag.StringVar(&o.engine, "engine", "cluster", "what holds the sessions: "+strings.Join(engines, ", "))
	minutes := flag.Float64("minutes", 1, "how long the users live")
	flag.IntVar(&o.users, "users", 200, "how many users there are")
	flag.IntVar(&o.processes, "processes", 4, "how many application processes there are")
	flag.DurationVar(&o.think, "think", time.Second, "how long a user thinks between two steps, on average")
	flag.StringVar(&o.fault, "break", "", "a fault of the application that the checker must find: "+strings.Join(breaks, ", "))
	faults := flag.String("faults", "", "the faults of the schedule, separated by commas (default all that the engine has)")
	flag.StringVar(&o.plot, "plot", "", "a `file` to draw the run into, whose name ends with .svg or .png")
	flag.Parse()
	o.duration = time.Duration(*minutes * float64(time.Minute))
	if *faults != "" {
		o.faults = strings.Split(*faults, ",")
	}
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "cluster: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	violations, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
	}
	if err != nil || violations > 0 {
		os.Exit(1)
	}
}

// check returns an error for options that make no run.
func (o options) check() error {
	switch {
	case !slices.Contains(engines, o.engine):
		return fmt.Errorf("-engine %s: want one of %s", o.engine, strings.Join(engines, ", "))
	case o.fault != "" && !slices.Contains(breaks, o.fault):
		return fmt.Errorf("-break %s: want one of %s", o.fault, strings.Join(breaks, ", "))
	case o.engine == "postgres" && slices.Contains(storeBreaks, o.fault):
		return fmt.Errorf("-break %s: want another -engine than postgres, since it breaks the store of Redis", o.fault)
	case o.duration <= 0:
		return errors.New("-minutes: want more than 0")
	case o.users < 1:
		return fmt.Errorf("-users %d: want at least 1", o.users)
	case o.processes < 2:
		return fmt.Errorf("-processes %d: want at least 2, since faults replace them one by one", o.processes)
	case o.think > idleTimeout/20:
		// A user does not know that a device has been idle for too long.
		return fmt.Errorf("-think %v: want at most %v, since sessions end after %v without use", o.think, idleTimeout/20, idleTimeout)
	case o.plot != "" && filepath.Ext(o.plot) != ".svg" && filepath.Ext(o.plot) != ".png":
		return fmt.Errorf("-plot %s: want a name that ends with .svg or .png", o.plot)
	}
	return nil
}

// run starts everything, lets the users live, and reports. If ctx is done earlier, the
// users stop at once.
func run(ctx context.Context, o options) (violations int, err error) {
	if err := o.check(); err != nil {
		return 0, err
	}
	var drawing *os.File
	if o.plot != "" {
		if drawing, err = os.Create(o.plot); err != nil {
			return 0, err
		}
		defer drawing.Close()
	}
	show := &screen{out: o.out}
	o.out = show
	fmt.Fprintf(o.out, "starting %s and %d application processes\n", o.engine, o.processes)
	e, err := startEngine(ctx, o.engine)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	faults, err := o.faultsOf(e)
	if err != nil {
		return 0, err
	}
	skewed := ""
	if slices.Contains(faults, "clocks") {
		fmt.Fprintln(o.out, "building the application with a clock that can be set")
		if skewed, err = buildSkewed(ctx, e.dir, sourceDir(), "."); err != nil {
			return 0, err
		}
	}
	check := newChecker()
	s, err := startSite(ctx, e.connect, o.fault, o.processes, check.heard)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	s.skewed = skewed

	ctx, abort := context.WithCancel(ctx)
	defer abort()
	living, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	if o.stopEarly {
		check.wrong = abort
	}
	check.begun, check.lasts = time.Now(), o.duration
	var users []*user
	var running sync.WaitGroup
	for i := range o.users {
		u := newUser(i, s, check, o.think)
		users = append(users, u)
		running.Go(func() { u.live(living, ctx) })
	}
	plan := schedule{engine: e, site: s, users: users, check: check, out: o.out}
	var failed error
	running.Go(func() {
		if failed = plan.run(living, ctx, faults, o.duration); failed != nil {
			abort()
		}
	})
	show.show(o.duration, check.progress)
	running.Wait()
	s.stop()
	show.hide()
	check.checkEnds()
	check.checkDiscards()
	check.checkCosts()
	check.checkUsage()
	violations = check.report(o.out)
	if left := plan.notMade(faults); len(left) > 0 {
		fmt.Fprintf(o.out, "there was no time for the faults %s\n", strings.Join(left, ", "))
	}
	if drawing != nil {
		failed = errors.Join(failed, check.plot(drawing, strings.TrimPrefix(filepath.Ext(o.plot), ".")), drawing.Close())
	}
	return violations, failed
}

// faultsOf returns the names of the faults to make.
func (o options) faultsOf(e *engine) ([]string, error) {
	names := []string{"process", "deploy", "keys"}
	if _, err := exec.LookPath("go"); err == nil {
		names = append(names, "clocks")
	} else if o.faults == nil {
		fmt.Fprintln(o.out, "without the command go there is no fault clocks")
	}
	for _, f := range e.faults {
		names = append(names, f.name)
	}
	for _, f := range o.faults {
		if !slices.Contains(names, f) {
			return nil, fmt.Errorf("-faults %s: want some of %s", f, strings.Join(names, ","))
		}
	}
	if o.faults != nil {
		return o.faults, nil
	}
	return names, nil
}
