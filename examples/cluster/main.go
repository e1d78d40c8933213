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
	"slices"
	"strings"
	"sync"
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
	flag.StringVar(&o.engine, "engine", "cluster", "what holds the sessions: redis, cluster, sentinel or postgres")
	minutes := flag.Float64("minutes", 1, "how long the users live")
	flag.IntVar(&o.users, "users", 200, "how many users there are")
	flag.IntVar(&o.processes, "processes", 4, "how many application processes there are")
	flag.DurationVar(&o.think, "think", time.Second, "how long a user thinks between two steps, on average")
	flag.StringVar(&o.fault, "break", "", "a fault of the applications that the checker must find: versions, revive, touch, mine, schema or deaf")
	faults := flag.String("faults", "", "the faults of the schedule, separated by commas (default all that the engine has)")
	flag.StringVar(&o.plot, "plot", "", "a file to draw the run into, whose name ends with .svg or .png")
	flag.Parse()
	o.duration = time.Duration(*minutes * float64(time.Minute))
	if *faults != "" {
		o.faults = strings.Split(*faults, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	violations, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
	}
	if err != nil || violations > 0 {
		os.Exit(1)
	}
}

// run starts everything, lets the users live, and reports.
func run(ctx context.Context, o options) (violations int, err error) {
	if o.users < 1 || o.processes < 2 {
		return 0, errors.New("want at least one user and two processes")
	}
	// A user does not know that a device has been idle for too long.
	if most := idleTimeout / 20; o.think > most {
		return 0, fmt.Errorf("-think %v: want at most %v, since sessions end after %v without use", o.think, most, idleTimeout)
	}
	show := &screen{out: o.out}
	o.out = show
	fmt.Fprintf(o.out, "starting %s and %d application processes\n", o.engine, o.processes)
	e, err := startEngine(ctx, o.engine)
	if err != nil {
		return 0, err
	}
	defer e.stop()
	names := []string{"process", "deploy", "keys"}
	if _, err := exec.LookPath("go"); err == nil {
		names = append(names, "clocks")
	} else if o.faults == nil {
		fmt.Fprintln(o.out, "without the command go there is no fault clocks")
	}
	for _, f := range e.faults {
		names = append(names, f.name)
	}
	if o.faults == nil {
		o.faults = names
	}
	for _, f := range o.faults {
		if !slices.Contains(names, f) {
			return 0, fmt.Errorf("-faults %s: want some of %s", f, strings.Join(names, ","))
		}
	}
	skewed := ""
	if slices.Contains(o.faults, "clocks") {
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

	living, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	if o.stopEarly {
		check.wrong = cancel
	}
	check.begun, check.lasts = time.Now(), o.duration
	var users []*user
	var running sync.WaitGroup
	for i := range o.users {
		u := newUser(fmt.Sprintf("user%d", i), s, check, o.think)
		users = append(users, u)
		running.Go(func() { u.live(living) })
	}
	plan := schedule{engine: e, site: s, users: users, check: check, out: o.out}
	running.Go(func() {
		if err = plan.run(living, ctx, o.faults, o.duration); err != nil {
			cancel()
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
	if o.plot != "" {
		err = errors.Join(err, check.plot(o.plot))
	}
	return violations, err
}
